// One value out of all threads' of a block, in an order that depends on the block's size alone.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/warp.cuh"

namespace moed::cuda {

struct Lesser {
  __device__ uint64_t operator()(uint64_t a, uint64_t b) const { return a < b ? a : b; }
};
struct Plus {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

// By all threads of a one-dimensional block of whole warps; each gets the result. `scratch` is
// shared memory, [blockDim.x], free again when the call returns. Through memory rather than by
// shuffles: three barriers whatever the type.
template <typename T, typename Fold>
__device__ T BlockFold(T value, T* scratch, Fold fold) {
  scratch[threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.x < kWarpSize) {
    for (unsigned i = threadIdx.x + kWarpSize; i < blockDim.x; i += kWarpSize) {
      value = fold(value, scratch[i]);
    }
    scratch[threadIdx.x] = value;
  }
  __syncthreads();
  T result = scratch[0];
  for (unsigned i = 1; i < kWarpSize; ++i) result = fold(result, scratch[i]);
  __syncthreads();
  return result;
}

}  // namespace moed::cuda
