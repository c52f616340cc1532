// Launcher of the combine kernel. Contract: CombineArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct CombineParams {
  const void* contributions = nullptr;          // [num_contributions, hidden] act
  const int32_t* contribution_index = nullptr;  // [num_tokens, top_k]; negative: nothing
  const float* topk_weights = nullptr;          // [num_tokens, top_k]
  float* residual = nullptr;                    // [num_tokens, hidden], in place
  int64_t num_tokens = 0;                       // > 0
  int64_t hidden = 0;                           // > 0
  int64_t top_k = 0;
  DType act = DType::kFloat32;
};

LaunchError LaunchCombine(const LaunchContext& context, const CombineParams& params);

}  // namespace moed::cuda
