// Launcher of the grouping of arrived rows. Contract: GroupByExpertArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct GroupByExpertParams {
  const int32_t* topk_ids = nullptr;         // [num_rows, top_k]
  const int32_t* local_expert_of = nullptr;  // [num_experts]
  int32_t* expert_offsets = nullptr;         // [num_local_experts + 1]
  int32_t* row_index = nullptr;              // [num_rows * min(top_k, num_local_experts)]
  int32_t* out_index = nullptr;              // same shape
  int64_t num_rows = 0;                      // times top_k below 2^31; 0: the offsets become 0
  int64_t top_k = 0;
  int64_t num_local_experts = 0;
  int64_t slots_per_row = 0;
};

LaunchError LaunchGroupByExpert(const LaunchContext& context, const GroupByExpertParams& params);

}  // namespace moed::cuda
