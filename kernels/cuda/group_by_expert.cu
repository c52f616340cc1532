// Sorts the pairs of arrived rows by local expert, and gives each result its place.
//
// Shapes: GroupByExpertParams. One block of up to 1,024 threads, as stable_places.cuh, over the
// pairs by row, then choice: a counting sort by local expert. Shared memory: warps * min(local
// experts, 256) integers, 32 KiB at most. Local experts beyond 256 take passes of their own. Cost:
// two reads of the ids by one multiprocessor and some thirty instructions for each 32 of them and
// warp: 16,384 pairs are 16 steps a warp twice over, some microseconds; the rows of eight ranks are
// eight times that.
#include "kernels/cuda/group_by_expert.h"

#include "kernels/cuda/stable_places.cuh"

namespace moed::cuda {
namespace {

// The local experts of one pass.
struct ExpertPass {
  int64_t first_expert;
  int num_experts;
  int* counts;        // a warp's, of each expert
  const int* starts;  // for the second walk: where the places of each begin
};

__device__ __forceinline__ int LocalExpert(const GroupByExpertParams& params, int64_t pair) {
  const int32_t expert = params.topk_ids[pair];
  return expert < 0 ? -1 : params.local_expert_of[expert];
}

// One walk over the warp's stretch, which counts; the second also writes. `num_local` pairs before
// the stretch have an expert here; returns how many there are with it.
template <bool kWrites>
__device__ __forceinline__ int Walk(const GroupByExpertParams& params, const Stretch& stretch,
                                    const ExpertPass& pass, int num_local) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const auto top_k = static_cast<uint32_t>(params.top_k);
  for (int64_t first = stretch.begin; first < stretch.end; first += kKeysAhead * kWarpSize) {
    int experts[kKeysAhead];
#pragma unroll
    for (int i = 0; i < kKeysAhead; ++i) {
      const int64_t pair = first + i * kWarpSize + lane;
      experts[i] = pair < stretch.end ? LocalExpert(params, pair) : -1;
    }
#pragma unroll
    for (int i = 0; i < kKeysAhead; ++i) {
      if (first + i * kWarpSize >= stretch.end) break;
      const unsigned local = __ballot_sync(kAllLanes, experts[i] >= 0);
      const int compact = num_local + __popc(local & ((1U << lane) - 1U));
      num_local += __popc(local);
      const int64_t expert = experts[i] - pass.first_expert;
      const bool in_pass = experts[i] >= 0 && expert >= 0 && expert < pass.num_experts;
      const int place = PlaceOfKey(in_pass ? static_cast<int>(expert) : -1, pass.counts);
      if (!kWrites || !in_pass) continue;
      const int64_t pair = first + i * kWarpSize + lane;
      const int64_t row = static_cast<uint32_t>(pair) / top_k;
      int64_t result = compact;
      if (params.slots_per_row > 0) {
        result = row * params.slots_per_row;
        for (int64_t earlier = row * params.top_k; earlier < pair; ++earlier) {
          if (LocalExpert(params, earlier) >= 0) ++result;
        }
      }
      params.row_index[pass.starts[expert] + place] = static_cast<int32_t>(row);
      params.out_index[pass.starts[expert] + place] = static_cast<int32_t>(result);
    }
  }
  return num_local;
}

__global__ void __launch_bounds__(kMaxPlaceThreads)
    GroupByExpertKernel(GroupByExpertParams params) {
  MOED_DYNAMIC_SHARED(int, counts);  // [num_warps][local experts of a pass]
  __shared__ int starts[kMaxKeys];
  __shared__ int local_of_warp[kMaxPlaceThreads / kWarpSize];
  const Stretch stretch = StretchOfWarp(params.num_rows * params.top_k);
  const int thread = static_cast<int>(threadIdx.x);
  const int num_threads = static_cast<int>(blockDim.x);
  const int lane = thread % kWarpSize;
  const int warp = thread / kWarpSize;
  const int num_warps = num_threads / kWarpSize;
  int base = 0;
  for (int64_t first = 0; first < params.num_local_experts; first += kMaxKeys) {
    const int64_t left = params.num_local_experts - first;
    const int num_experts = left < kMaxKeys ? static_cast<int>(left) : kMaxKeys;
    for (int i = thread; i < num_warps * num_experts; i += num_threads) counts[i] = 0;
    __syncthreads();
    const ExpertPass pass = {first, num_experts, counts + warp * num_experts, starts};
    const int num_local = Walk<false>(params, stretch, pass, 0);
    if (lane == 0) local_of_warp[warp] = num_local;
    __syncthreads();
    StartWarps(counts, num_experts, starts);
    const int before = __reduce_add_sync(kAllLanes, lane < warp ? local_of_warp[lane] : 0);
    __syncthreads();
    if (warp == 0) {
      base = StartKeys(starts, num_experts, base);
      for (int e = lane; e < num_experts; e += kWarpSize) {
        params.expert_offsets[first + e] = starts[e];
      }
    }
    __syncthreads();
    Walk<true>(params, stretch, pass, before);
    __syncthreads();
  }
  if (thread == 0) params.expert_offsets[params.num_local_experts] = base;
}

}  // namespace

LaunchError LaunchGroupByExpert(const LaunchContext& context, const GroupByExpertParams& params) {
  const unsigned threads = PlaceThreads(params.num_rows * params.top_k);
  const int64_t keys = params.num_local_experts < kMaxKeys ? params.num_local_experts : kMaxKeys;
  const size_t shared_bytes = threads / kWarpSize * static_cast<size_t>(keys) * sizeof(int);
  return MOED_LAUNCH(context, GroupByExpertKernel, dim3(1), dim3(threads), shared_bytes, params);
}

}  // namespace moed::cuda
