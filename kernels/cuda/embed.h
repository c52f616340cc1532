// Launcher of the embedding kernel. Contract: EmbedArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct EmbedParams {
  const int32_t* input_tokens = nullptr;  // [num_tokens]
  const int32_t* last_sampled = nullptr;  // [num_slots]
  const void* table = nullptr;            // [vocab, hidden] act
  float* out = nullptr;                   // [num_tokens, hidden]
  int64_t num_tokens = 0;                 // > 0
  int64_t hidden = 0;                     // > 0
  DType act = DType::kFloat32;
};

LaunchError LaunchEmbed(const LaunchContext& context, const EmbedParams& params);

}  // namespace moed::cuda
