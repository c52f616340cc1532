// Launcher of the plan of an exact dispatch. Contract: PlanSendArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct PlanSendParams {
  const int32_t* topk_ids = nullptr;        // [num_tokens, top_k]
  const int32_t* rank_of_expert = nullptr;  // [num_experts]
  int32_t* send_row_index = nullptr;        // [num_tokens * min(top_k, num_ranks)]
  int32_t* send_counts = nullptr;           // [num_ranks]
  int32_t* reply_counts = nullptr;          // [num_ranks]
  int32_t* contribution_index = nullptr;    // [num_tokens, top_k]
  int64_t num_tokens = 0;                   // times top_k below 2^31; 0: the counts become 0
  int64_t top_k = 0;
  int64_t num_ranks = 0;  // > 0
};

LaunchError LaunchPlanSend(const LaunchContext& context, const PlanSendParams& params);

}  // namespace moed::cuda
