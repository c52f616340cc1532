// Kernels that try out the emulation itself.
#include "tests/cuda_host/kernels/self_test_kernels.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/warp.cuh"

namespace moed::cuda_host {
namespace {

__global__ void TreeSumKernel(const int* values, int* totals) {
  MOED_DYNAMIC_SHARED(int, sums);  // [blockDim.x]
  const int i = static_cast<int>(threadIdx.x);
  sums[i] = values[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  for (int half = static_cast<int>(blockDim.x) / 2; half > 0; half /= 2) {
    if (i < half) sums[i] += sums[i + half];
    __syncthreads();
  }
  if (i == 0) totals[blockIdx.x] = sums[0];
}

__global__ void PrefixSumKernel(const int* values, int* out) {
  int sum = values[threadIdx.x];
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarpSize;
  for (int distance = 1; distance < cuda::kWarpSize; distance *= 2) {
    const int below = __shfl_up_sync(cuda::kAllLanes, sum, distance);
    if (lane >= distance) sum += below;
  }
  out[threadIdx.x] = sum;
}

}  // namespace

LaunchError LaunchTreeSum(const LaunchContext& context, const int* values, int* totals, int blocks,
                          int threads) {
  return MOED_LAUNCH(context, TreeSumKernel, blocks, threads, threads * sizeof(int), values,
                     totals);
}

LaunchError LaunchPrefixSum(const LaunchContext& context, const int* values, int* out,
                            int threads) {
  return MOED_LAUNCH(context, PrefixSumKernel, 1, threads, 0, values, out);
}

}  // namespace moed::cuda_host
