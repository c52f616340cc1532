// Launcher of the capacity of experts. Contract: LimitLoadArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct LimitLoadParams {
  int32_t* topk_ids = nullptr;  // [num_tokens, top_k], in place
  int32_t* dropped = nullptr;   // [num_tokens], in place
  int64_t num_tokens = 0;       // > 0; times top_k below 2^31
  int64_t top_k = 0;            // > 0
  int64_t num_experts = 0;      // > 0
  int32_t capacity = 0;
};

LaunchError LaunchLimitLoad(const LaunchContext& context, const LimitLoadParams& params);

}  // namespace moed::cuda
