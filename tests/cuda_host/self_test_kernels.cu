// Kernels that try out the emulation itself; what each computes stands at its launcher.
#include "tests/cuda_host/self_test_kernels.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/mma.cuh"
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

__global__ void CountOddKernel(const int* values, int* out, int leave_from) {
  if (static_cast<int>(threadIdx.x) >= leave_from) return;
  out[threadIdx.x] = __syncthreads_count(values[threadIdx.x] % 2);
}

__global__ void HalfWarpsKernel(const int* values, int* out) {
  const unsigned half = threadIdx.x / 16;
  const unsigned mask = half == 0 ? 0x0000ffffU : 0xffff0000U;
  unsigned votes = 0;
  int largest = 0;
  for (unsigned round = 0; round <= half; ++round) {
    votes = __ballot_sync(mask, values[threadIdx.x] % 2);
    largest = __reduce_max_sync(mask, values[threadIdx.x]);
  }
  out[threadIdx.x] = static_cast<int>(votes >> half * 16 | static_cast<unsigned>(largest) << 16);
}

__global__ void TakeTicketsKernel(unsigned* tickets, int* order) {
  const unsigned id = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  order[atomicAdd(tickets, 1U)] = static_cast<int>(id);
}

__global__ void AtomicsKernel(int* sums, unsigned long long* long_sum) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&sums[0], i);
  atomicMin(&sums[1], i);
  atomicMax(&sums[2], i);
  atomicXor(&sums[3], i);
  atomicAdd(long_sum, static_cast<unsigned long long>(i) << 32);
}

__global__ void ProductKernel(const uint16_t* a, const uint16_t* b, float* d) {
  const unsigned group = threadIdx.x / 4;
  const unsigned pair = threadIdx.x % 4;
  const auto* a_pairs = reinterpret_cast<const uint32_t*>(a);  // [16, 8]
  const auto* b_pairs = reinterpret_cast<const uint32_t*>(b);  // [8, 8]
  cuda::FragmentA left;
  cuda::FragmentB right;
  cuda::FragmentD sum{};
  for (unsigned i = 0; i < 4; ++i) left.r[i] = a_pairs[(group + i % 2 * 8) * 8 + pair + i / 2 * 4];
  for (unsigned i = 0; i < 2; ++i) right.r[i] = b_pairs[group * 8 + pair + i * 4];
  cuda::MultiplyAdd(sum, left, right);
  for (unsigned i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + pair * 2 + i % 2] = sum.r[i];
}

__global__ void SpinKernel(int* flag, int* out) {
  if (threadIdx.x == blockDim.x - 1) atomicExch(flag, 1);
  if (threadIdx.x == 0) {
    while (atomicAdd(flag, 0) == 0) __nanosleep(100);
    out[0] = 1;
  }
}

__global__ void BarriersKernel(int barriers) {
  for (int i = 0; i < barriers; ++i) __syncthreads();
}

__global__ void AnythingKernel(int* out) {
  if (threadIdx.x + threadIdx.y + threadIdx.z + blockIdx.x + blockIdx.y == 0) out[0] = 1;
}

dim3 Dim(const GridShape& shape) {
  return {static_cast<unsigned>(shape.x), static_cast<unsigned>(shape.y),
          static_cast<unsigned>(shape.z)};
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

LaunchError LaunchCountOdd(const LaunchContext& context, const int* values, int* out, int threads,
                           int leave_from) {
  return MOED_LAUNCH(context, CountOddKernel, 1, threads, 0, values, out, leave_from);
}

LaunchError LaunchHalfWarps(const LaunchContext& context, const int* values, int* out) {
  return MOED_LAUNCH(context, HalfWarpsKernel, 1, cuda::kWarpSize, 0, values, out);
}

LaunchError LaunchTakeTickets(const LaunchContext& context, const GridShape& grid,
                              unsigned* tickets, int* order) {
  return MOED_LAUNCH(context, TakeTicketsKernel, Dim(grid), 1, 0, tickets, order);
}

LaunchError LaunchAtomics(const LaunchContext& context, int blocks, int threads, int* sums,
                          unsigned long long* long_sum) {
  return MOED_LAUNCH(context, AtomicsKernel, blocks, threads, 0, sums, long_sum);
}

LaunchError LaunchProduct(const LaunchContext& context, const uint16_t* a, const uint16_t* b,
                          float* d) {
  return MOED_LAUNCH(context, ProductKernel, 1, cuda::kWarpSize, 0, a, b, d);
}

LaunchError LaunchSpin(const LaunchContext& context, int threads, int* flag, int* out) {
  return MOED_LAUNCH(context, SpinKernel, 1, threads, 0, flag, out);
}

LaunchError LaunchBarriers(const LaunchContext& context, int blocks, int threads, int barriers) {
  return MOED_LAUNCH(context, BarriersKernel, blocks, threads, 0, barriers);
}

LaunchError LaunchAnything(const LaunchContext& context, const GridShape& grid,
                           const GridShape& block, int64_t shared_bytes, int* out) {
  return MOED_LAUNCH(context, AnythingKernel, Dim(grid), Dim(block), shared_bytes, out);
}

}  // namespace moed::cuda_host
