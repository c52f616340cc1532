// Sums and maxima of a warp and of a block, in an order that does not depend on anything but the
// lanes.
#pragma once

#include "kernels/cuda/device.cuh"

namespace moed::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kAllLanes = 0xffffffffU;

// By all lanes of a warp; each gets the result.
__device__ __forceinline__ float WarpSum(float value) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

__device__ __forceinline__ float WarpMax(float value) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// By all kThreads threads of a block (whole warps); each gets the result. `scratch` is shared
// memory, [kThreads / kWarpSize] floats, free again when the call returns.
template <int kThreads>
__device__ __forceinline__ float BlockSum(float value, float* scratch) {
  constexpr int kWarps = kThreads / kWarpSize;
  static_assert(kThreads % kWarpSize == 0 && kWarps <= kWarpSize);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  value = WarpSum(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  const float total = WarpSum(lane < kWarps ? scratch[lane] : 0.0F);
  __syncthreads();
  return total;
}

}  // namespace moed::cuda
