// Launcher of the router. Contract: RouteArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

// Experts whose logits, all of them chosen, fit into shared memory: 32 KiB.
inline constexpr int64_t kMaxRoutedExperts = 4096;

struct RouteParams {
  const void* x = nullptr;               // [num_tokens, hidden] act
  const float* weight = nullptr;         // [num_experts, hidden]
  const int32_t* num_choices = nullptr;  // [num_tokens]; null: top_k for all
  int32_t* topk_ids = nullptr;           // [num_tokens, top_k]
  float* topk_weights = nullptr;         // [num_tokens, top_k]
  int64_t num_tokens = 0;                // > 0
  int64_t hidden = 0;
  int num_experts = 0;  // at most kMaxRoutedExperts
  int top_k = 0;        // in [1, num_experts]
  DType act = DType::kFloat32;
};

LaunchError LaunchRoute(const LaunchContext& context, const RouteParams& params);

}  // namespace moed::cuda
