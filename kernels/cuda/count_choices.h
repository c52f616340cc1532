// Launcher of the count of choices. Contract: CountChoicesArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct CountChoicesParams {
  const int32_t* topk_ids = nullptr;  // [num_pairs]; negative: not counted
  int64_t* counts = nullptr;          // [num_experts], in place
  int64_t num_pairs = 0;              // > 0
  int64_t num_experts = 0;            // > 0
};

LaunchError LaunchCountChoices(const LaunchContext& context, const CountChoicesParams& params);

}  // namespace moed::cuda
