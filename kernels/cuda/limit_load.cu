// Ids past an expert's capacity become -1, first choices of all rows first.
//
// Shapes: LimitLoadParams. One block of up to 1,024 threads, as stable_places.cuh, over the
// sequence of all first choices by row, then all second ones...: a pair whose place among its
// expert's is `capacity` or more goes. Shared memory: warps * min(experts, 256) integers, 32 KiB at
// most. Pairs of an expert beyond the first 256 take passes of their own. Cost: two reads of the
// ids by one multiprocessor and two dozen instructions for each 32 of them and warp: 16,384 pairs
// are 16 steps a warp twice over, some microseconds.
#include "kernels/cuda/limit_load.h"

#include "kernels/cuda/stable_places.cuh"

namespace moed::cuda {
namespace {

// One walk over the warp's stretch. What lies past `capacity` goes where `drops`.
template <bool kDrops>
__device__ __forceinline__ void Walk(const LimitLoadParams& params, const Stretch& stretch,
                                     int first_expert, int num_experts, int* counts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const auto num_tokens = static_cast<uint32_t>(params.num_tokens);
  for (int64_t first = stretch.begin; first < stretch.end; first += kKeysAhead * kWarpSize) {
    int keys[kKeysAhead];
    uint32_t rows[kKeysAhead];
    int32_t* places[kKeysAhead];
#pragma unroll
    for (int i = 0; i < kKeysAhead; ++i) {
      const int64_t at = first + i * kWarpSize + lane;
      keys[i] = -1;
      if (at >= stretch.end) continue;
      const auto pair = static_cast<uint32_t>(at);
      rows[i] = pair % num_tokens;
      places[i] = params.topk_ids + rows[i] * params.top_k + pair / num_tokens;
      const int expert = *places[i] - first_expert;
      if (expert >= 0 && expert < num_experts) keys[i] = expert;
    }
#pragma unroll
    for (int i = 0; i < kKeysAhead; ++i) {
      if (first + i * kWarpSize >= stretch.end) break;
      const int place = PlaceOfKey(keys[i], counts);
      if (kDrops && keys[i] >= 0 && place >= params.capacity) {
        *places[i] = -1;
        atomicAdd(params.dropped + rows[i], 1);
      }
    }
  }
}

__global__ void __launch_bounds__(kMaxPlaceThreads, 1) LimitLoadKernel(LimitLoadParams params) {
  MOED_DYNAMIC_SHARED(int, counts);  // [num_warps][num_experts of a pass]
  __shared__ int totals[kMaxKeys];
  const Stretch stretch = StretchOfWarp(params.num_tokens * params.top_k);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int num_warps = static_cast<int>(blockDim.x) / kWarpSize;
  for (int64_t first = 0; first < params.num_experts; first += kMaxKeys) {
    const int64_t left = params.num_experts - first;
    const int num_experts = left < kMaxKeys ? static_cast<int>(left) : kMaxKeys;
    for (int i = static_cast<int>(threadIdx.x); i < num_warps * num_experts;
         i += static_cast<int>(blockDim.x)) {
      counts[i] = 0;
    }
    __syncthreads();
    int* own = counts + warp * num_experts;
    Walk<false>(params, stretch, static_cast<int>(first), num_experts, own);
    __syncthreads();
    StartWarps(counts, num_experts, totals);
    __syncthreads();
    Walk<true>(params, stretch, static_cast<int>(first), num_experts, own);
    __syncthreads();
  }
}

}  // namespace

LaunchError LaunchLimitLoad(const LaunchContext& context, const LimitLoadParams& params) {
  const unsigned threads = PlaceThreads(params.num_tokens * params.top_k);
  const int64_t keys = params.num_experts < kMaxKeys ? params.num_experts : kMaxKeys;
  const size_t shared_bytes = threads / kWarpSize * static_cast<size_t>(keys) * sizeof(int);
  return MOED_LAUNCH(context, LimitLoadKernel, dim3(1), dim3(threads), shared_bytes, params);
}

}  // namespace moed::cuda
