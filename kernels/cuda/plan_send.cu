// Which rows go to which rank, and where each pair's contribution comes back.
//
// Shapes: PlanSendParams. One block of up to 1,024 threads, as stable_places.cuh, over the pairs by
// row, then choice: two counting sorts in one, of all pairs by rank (replies) and of those that are
// their row's first on a rank (sends). Shared memory: 2 * warps * min(ranks, 128) integers, 32 KiB
// at most. Ranks beyond 128 take passes of their own. Cost: two reads of the ids by one
// multiprocessor and some fifty instructions for each 32 of them and warp: 16,384 pairs are 16
// steps a warp twice over, some microseconds.
#include "kernels/cuda/plan_send.h"

#include "kernels/cuda/stable_places.cuh"

namespace moed::cuda {
namespace {

constexpr int kRanksOfPass = 128;

// The ranks of one pass: a warp's counts of pairs and, for the second walk, where the places of
// each rank begin.
struct RankPass {
  int64_t first_rank;
  int num_ranks;
  int* sends;
  int* replies;
  const int* send_starts;
  const int* reply_starts;
};

// Whether no choice of the row from `pair` on lives on `rank` before `end`.
__device__ __forceinline__ bool IsFirstOnRank(const PlanSendParams& params, int64_t pair,
                                              int64_t end, int rank) {
  for (; pair < end; ++pair) {
    const int32_t expert = params.topk_ids[pair];
    if (expert >= 0 && params.rank_of_expert[expert] == rank) return false;
  }
  return true;
}

// One walk over the warp's stretch, which counts; the second also writes places.
template <bool kWrites>
__device__ __forceinline__ void Walk(const PlanSendParams& params, const Stretch& stretch,
                                     const RankPass& pass) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const auto top_k = static_cast<uint32_t>(params.top_k);
  for (int64_t first = stretch.begin; first < stretch.end; first += kKeysAhead * kWarpSize) {
    int ranks[kKeysAhead];
    bool firsts[kKeysAhead];
    int32_t rows[kKeysAhead];
#pragma unroll
    for (int i = 0; i < kKeysAhead; ++i) {
      const int64_t pair = first + i * kWarpSize + lane;
      ranks[i] = -1;
      firsts[i] = false;
      rows[i] = 0;
      if (pair >= stretch.end) continue;
      const int32_t expert = params.topk_ids[pair];
      if (expert < 0) continue;
      ranks[i] = params.rank_of_expert[expert];
      rows[i] = static_cast<int32_t>(static_cast<uint32_t>(pair) / top_k);
      firsts[i] = IsFirstOnRank(params, rows[i] * params.top_k, pair, ranks[i]);
    }
#pragma unroll
    for (int i = 0; i < kKeysAhead; ++i) {
      if (first + i * kWarpSize >= stretch.end) break;
      const int64_t pair = first + i * kWarpSize + lane;
      const int64_t rank = ranks[i] - pass.first_rank;
      const bool in_pass = ranks[i] >= 0 && rank >= 0 && rank < pass.num_ranks;
      const int key = in_pass ? static_cast<int>(rank) : -1;
      const int reply = PlaceOfKey(key, pass.replies);
      const int send = PlaceOfKey(firsts[i] ? key : -1, pass.sends);
      if (!kWrites || pair >= stretch.end) continue;
      if (in_pass) {
        params.contribution_index[pair] = pass.reply_starts[rank] + reply;
        if (firsts[i]) params.send_row_index[pass.send_starts[rank] + send] = rows[i];
      } else if (ranks[i] < 0) {
        params.contribution_index[pair] = -1;
      }
    }
  }
}

__global__ void __launch_bounds__(kMaxPlaceThreads) PlanSendKernel(PlanSendParams params) {
  MOED_DYNAMIC_SHARED(int, shared);  // [2][num_warps][ranks of a pass]
  __shared__ int send_starts[kRanksOfPass];
  __shared__ int reply_starts[kRanksOfPass];
  const Stretch stretch = StretchOfWarp(params.num_tokens * params.top_k);
  const int thread = static_cast<int>(threadIdx.x);
  const int num_threads = static_cast<int>(blockDim.x);
  const int warp = thread / kWarpSize;
  const int num_warps = num_threads / kWarpSize;
  int send_base = 0;
  int reply_base = 0;
  for (int64_t first = 0; first < params.num_ranks; first += kRanksOfPass) {
    const int64_t left = params.num_ranks - first;
    const int num_ranks = left < kRanksOfPass ? static_cast<int>(left) : kRanksOfPass;
    int* sends = shared;
    int* replies = shared + num_warps * num_ranks;
    for (int i = thread; i < 2 * num_warps * num_ranks; i += num_threads) shared[i] = 0;
    __syncthreads();
    const RankPass pass = {
        first,       num_ranks,   sends + warp * num_ranks, replies + warp * num_ranks,
        send_starts, reply_starts};
    Walk<false>(params, stretch, pass);
    __syncthreads();
    StartWarps(sends, num_ranks, send_starts);
    StartWarps(replies, num_ranks, reply_starts);
    __syncthreads();
    if (warp == 0) {
      for (int rank = thread; rank < num_ranks; rank += kWarpSize) {
        params.send_counts[first + rank] = send_starts[rank];
        params.reply_counts[first + rank] = reply_starts[rank];
      }
      send_base = StartKeys(send_starts, num_ranks, send_base);
      reply_base = StartKeys(reply_starts, num_ranks, reply_base);
    }
    __syncthreads();
    Walk<true>(params, stretch, pass);
    __syncthreads();
  }
}

}  // namespace

LaunchError LaunchPlanSend(const LaunchContext& context, const PlanSendParams& params) {
  const unsigned threads = PlaceThreads(params.num_tokens * params.top_k);
  const int64_t ranks = params.num_ranks < kRanksOfPass ? params.num_ranks : kRanksOfPass;
  const size_t shared_bytes = threads / kWarpSize * 2 * static_cast<size_t>(ranks) * sizeof(int);
  return MOED_LAUNCH(context, PlanSendKernel, dim3(1), dim3(threads), shared_bytes, params);
}

}  // namespace moed::cuda
