// Launcher of the rotary and cache kernel. Contract: RotaryCacheWriteArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct RotaryCacheWriteParams {
  const float* qkv = nullptr;             // [num_tokens, (num_heads + 2 num_kv_heads) * head_dim]
  const int32_t* positions = nullptr;     // [num_tokens]
  const int32_t* slot_mapping = nullptr;  // [num_tokens]
  const float* cos_sin = nullptr;         // [max_positions, head_dim]
  float* q = nullptr;                     // [num_tokens, num_heads, head_dim]
  void* k_cache = nullptr;                // [num_blocks, num_kv_heads, block_size, head_dim] act
  void* v_cache = nullptr;                // as k_cache
  int64_t num_tokens = 0;                 // > 0
  int num_heads = 0;                      // num_heads + num_kv_heads > 0
  int num_kv_heads = 0;
  int head_dim = 0;  // > 0, even
  int block_size = 0;
  DType act = DType::kFloat32;
};

LaunchError LaunchRotaryCacheWrite(const LaunchContext& context,
                                   const RotaryCacheWriteParams& params);

}  // namespace moed::cuda
