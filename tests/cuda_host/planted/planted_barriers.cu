// Faults of barriers and warp masks. One block each; no more than the comment at the launcher.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/warp.cuh"
#include "tests/cuda_host/planted/planted_kernels.h"

namespace moed::cuda_host {
namespace {

__global__ void MissingBarrierKernel(const int* values, int* out, bool with_fault) {
  MOED_DYNAMIC_SHARED(int, shared);  // [blockDim.x]
  shared[threadIdx.x] = values[threadIdx.x];
  if (!with_fault) __syncthreads();
  out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

__global__ void MissingWarpBarrierKernel(const int* values, int* out, bool with_fault) {
  __shared__ int shared[cuda::kWarpSize];
  shared[threadIdx.x] = values[threadIdx.x];
  __ballot_sync(cuda::kAllLanes, 1);
  if (!with_fault) __syncwarp();
  out[threadIdx.x] = shared[(threadIdx.x + 1) % cuda::kWarpSize];
}

__global__ void TwoBarriersKernel() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void BlockAgainstWarpKernel() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

__global__ void LaneOutsideItsMaskKernel(int* out) {
  out[threadIdx.x] = __shfl_sync(0x7fffffffU, static_cast<int>(threadIdx.x), 0);
}

__global__ void ReadOfAbsentLaneKernel(int* out) {
  if (threadIdx.x == 31) return;
  out[threadIdx.x] = __shfl_down_sync(0x7fffffffU, static_cast<int>(threadIdx.x), 1);
}

__global__ void MasksThatDifferKernel(int* out) {
  const unsigned mask = threadIdx.x == 31 ? 0xc0000000U : cuda::kAllLanes;
  out[threadIdx.x] = __shfl_sync(mask, static_cast<int>(threadIdx.x), 30);
}

}  // namespace

LaunchError LaunchMissingBarrier(const LaunchContext& context, const int* values, int* out,
                                 int threads, bool with_fault) {
  return MOED_LAUNCH(context, MissingBarrierKernel, 1, threads, threads * sizeof(int), values, out,
                     with_fault);
}

LaunchError LaunchMissingWarpBarrier(const LaunchContext& context, const int* values, int* out,
                                     bool with_fault) {
  return MOED_LAUNCH(context, MissingWarpBarrierKernel, 1, cuda::kWarpSize, 0, values, out,
                     with_fault);
}

LaunchError LaunchTwoBarriers(const LaunchContext& context, int threads) {
  return MOED_LAUNCH(context, TwoBarriersKernel, 1, threads, 0);
}

LaunchError LaunchBlockAgainstWarp(const LaunchContext& context, int threads) {
  return MOED_LAUNCH(context, BlockAgainstWarpKernel, 1, threads, 0);
}

LaunchError LaunchLaneOutsideItsMask(const LaunchContext& context, int* out) {
  return MOED_LAUNCH(context, LaneOutsideItsMaskKernel, 1, cuda::kWarpSize, 0, out);
}

LaunchError LaunchReadOfAbsentLane(const LaunchContext& context, int* out) {
  return MOED_LAUNCH(context, ReadOfAbsentLaneKernel, 1, cuda::kWarpSize, 0, out);
}

LaunchError LaunchMasksThatDiffer(const LaunchContext& context, int* out) {
  return MOED_LAUNCH(context, MasksThatDifferKernel, 1, cuda::kWarpSize, 0, out);
}

}  // namespace moed::cuda_host
