// Accesses past the end of shared and global memory. One block of 32 threads each.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/warp.cuh"
#include "tests/cuda_host/planted/planted_kernels.h"

namespace moed::cuda_host {
namespace {

constexpr int kRoom = 32;

__device__ void FillAndSum(int* shared, int count, int* out) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kRoom) shared[i] = i;
  __syncthreads();
  if (threadIdx.x != 0) return;
  int sum = 0;
  for (int i = 0; i < kRoom; ++i) sum += shared[i];
  out[0] = sum;
}

__global__ void DynamicSharedOverflowKernel(int* out, int count) {
  MOED_DYNAMIC_SHARED(int, shared);  // [kRoom]
  FillAndSum(shared, count, out);
}

__global__ void StaticSharedOverflowKernel(int* out, int count) {
  __shared__ int shared[kRoom];
  FillAndSum(shared, count, out);
}

__global__ void CopyRowsKernel(const int* in, int* out, int rows, int width, bool with_fault) {
  for (int row = 0; with_fault ? row <= rows : row < rows; ++row) {
    for (int i = static_cast<int>(threadIdx.x); i < width; i += kRoom) {
      out[row * width + i] = in[row * width + i];
    }
  }
}

__global__ void ReadKernel(const int* in, int64_t index, int* out) {
  if (threadIdx.x == 0) out[0] = in[index];
}

}  // namespace

LaunchError LaunchDynamicSharedOverflow(const LaunchContext& context, int* out, int count) {
  return MOED_LAUNCH(context, DynamicSharedOverflowKernel, 1, kRoom, kRoom * sizeof(int), out,
                     count);
}

LaunchError LaunchStaticSharedOverflow(const LaunchContext& context, int* out, int count) {
  return MOED_LAUNCH(context, StaticSharedOverflowKernel, 1, kRoom, 0, out, count);
}

LaunchError LaunchCopyRows(const LaunchContext& context, const int* in, int* out, int rows,
                           int width, bool with_fault) {
  return MOED_LAUNCH(context, CopyRowsKernel, 1, kRoom, 0, in, out, rows, width, with_fault);
}

LaunchError LaunchRead(const LaunchContext& context, const int* in, int64_t index, int* out) {
  return MOED_LAUNCH(context, ReadKernel, 1, kRoom, 0, in, index, out);
}

}  // namespace moed::cuda_host
