// Rotates queries and keys (Su et al. 2021, half-split form) and stores keys and values in the
// paged cache.
//
// Shapes: RotaryCacheWriteParams. Grid: (token, part of its heads). Block: 256 threads; each takes
// four neighbours of a head's lower half and the four they pair with, where half a head is a
// multiple of four, else one of each. Shared memory: none. Bound by memory.
#include "kernels/cuda/rotary_cache_write.h"

#include "kernels/cuda/vector.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWide = 4;

// Where a head's two halves go.
template <int kWidth, typename T>
__device__ __forceinline__ void StoreHalves(const Vector<float, kWidth>& low,
                                            const Vector<float, kWidth>& high, T* to, int half) {
  Vector<T, kWidth> out_low;
  Vector<T, kWidth> out_high;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    out_low.at[j] = FromFloat<T>(low.at[j]);
    out_high.at[j] = FromFloat<T>(high.at[j]);
  }
  StoreVector<kWidth>(to, out_low);
  StoreVector<kWidth>(to + half, out_high);
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) RotaryCacheWriteKernel(RotaryCacheWriteParams params) {
  const int half = params.head_dim / 2;
  const int parts_of_head = half / kWidth;
  const int part = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  const int head = part / parts_of_head;  // queries, then keys, then values
  if (head >= params.num_heads + 2 * params.num_kv_heads) return;
  const int at = part % parts_of_head * kWidth;

  const auto token = static_cast<int64_t>(blockIdx.x);
  const int64_t row_heads = params.num_heads + 2 * params.num_kv_heads;
  const float* x = params.qkv + (token * row_heads + head) * params.head_dim + at;
  Vector<float, kWidth> low = LoadVector<kWidth>(x);
  Vector<float, kWidth> high = LoadVector<kWidth>(x + half);
  if (head < params.num_heads + params.num_kv_heads) {
    const int64_t position = params.positions[token];
    const float* angles = params.cos_sin + position * params.head_dim + at;
    const Vector<float, kWidth> cosine = LoadVector<kWidth>(angles);
    const Vector<float, kWidth> sine = LoadVector<kWidth>(angles + half);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float a = low.at[j];
      const float b = high.at[j];
      low.at[j] = a * cosine.at[j] - b * sine.at[j];
      high.at[j] = b * cosine.at[j] + a * sine.at[j];
    }
  }
  if (head < params.num_heads) {
    float* q = params.q + (token * params.num_heads + head) * params.head_dim + at;
    StoreHalves<kWidth>(low, high, q, half);
    return;
  }
  const int slot = params.slot_mapping[token];
  const bool is_key = head < params.num_heads + params.num_kv_heads;
  const int kv_head = head - params.num_heads - (is_key ? 0 : params.num_kv_heads);
  const int64_t block = slot / params.block_size;
  const int64_t row =
      (block * params.num_kv_heads + kv_head) * params.block_size + slot % params.block_size;
  T* cache = static_cast<T*>(is_key ? params.k_cache : params.v_cache);
  StoreHalves<kWidth>(low, high, cache + row * params.head_dim + at, half);
}

template <typename T, int kWidth>
LaunchError Launch(const LaunchContext& context, const RotaryCacheWriteParams& params) {
  const int64_t parts = static_cast<int64_t>(params.num_heads + 2 * params.num_kv_heads) *
                        (params.head_dim / 2 / kWidth);
  const dim3 grid(static_cast<unsigned>(params.num_tokens),
                  static_cast<unsigned>(BlocksFor(parts, kThreads)));
  return MOED_LAUNCH(context, (RotaryCacheWriteKernel<T, kWidth>), grid, dim3(kThreads), 0, params);
}

template <typename T>
LaunchError Launch(const LaunchContext& context, const RotaryCacheWriteParams& params) {
  const bool wide = params.head_dim / 2 % kWide == 0 &&
                    Aligned(16, params.qkv, params.cos_sin, params.q) &&
                    Aligned(kWide * sizeof(T), params.k_cache, params.v_cache);
  return wide ? Launch<T, kWide>(context, params) : Launch<T, 1>(context, params);
}

}  // namespace

LaunchError LaunchRotaryCacheWrite(const LaunchContext& context,
                                   const RotaryCacheWriteParams& params) {
  return params.act == DType::kFloat32 ? Launch<float>(context, params)
                                       : Launch<BFloat16>(context, params);
}

}  // namespace moed::cuda
