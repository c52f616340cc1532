// counts[e] += number of ids equal to e.
//
// Shapes: CountChoicesParams. Grid: (parts of the pairs, 1,024 experts each). Block: 256 threads,
// eight pairs each. Shared memory: a block's counts, 4 KiB, then added to those of all. Sums of
// integers: exact in any order. One block, so one round trip of atomics, up to 2,048 pairs.
#include "kernels/cuda/count_choices.h"

#include "kernels/cuda/device.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPairsOfThread = 8;
constexpr int kExpertsOfBlock = 1024;

__global__ void __launch_bounds__(kThreads) CountChoicesKernel(CountChoicesParams params) {
  __shared__ int counts[kExpertsOfBlock];
  const int64_t first_expert = static_cast<int64_t>(blockIdx.y) * kExpertsOfBlock;
  const int64_t left = params.num_experts - first_expert;
  const int num_experts = left < kExpertsOfBlock ? static_cast<int>(left) : kExpertsOfBlock;
  const int thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < num_experts; e += kThreads) counts[e] = 0;
  __syncthreads();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads * kPairsOfThread + thread;
#pragma unroll
  for (int i = 0; i < kPairsOfThread; ++i) {
    const int64_t pair = first + i * kThreads;
    if (pair >= params.num_pairs) break;
    const int64_t expert = params.topk_ids[pair] - first_expert;
    if (expert >= 0 && expert < num_experts) atomicAdd(&counts[expert], 1);
  }
  __syncthreads();
  for (int e = thread; e < num_experts; e += kThreads) {
    if (counts[e] == 0) continue;
    atomicAdd(reinterpret_cast<unsigned long long*>(params.counts + first_expert + e),
              static_cast<unsigned long long>(counts[e]));
  }
}

}  // namespace

LaunchError LaunchCountChoices(const LaunchContext& context, const CountChoicesParams& params) {
  const dim3 grid(static_cast<unsigned>(BlocksFor(params.num_pairs, kThreads * kPairsOfThread)),
                  static_cast<unsigned>(BlocksFor(params.num_experts, kExpertsOfBlock)));
  return MOED_LAUNCH(context, CountChoicesKernel, grid, dim3(kThreads), 0, params);
}

}  // namespace moed::cuda
