// Chooses a token for every row: the largest logit, or a draw from what the cuts leave.
//
//   rows [num_rows], logits [num_rows, vocab] float32 or keys [slots, vocab] -> token_ids
//   [num_rows], last_sampled [num_slots]
//   grid: num_rows blocks; block: ThreadsForVocab, fewer where shared memory is short
//   dynamic shared memory: PlaceColumnBytes, 88 KiB for 512 threads; without draws 8 bytes a thread
//
// A draw sorts nothing: each cut, and the draw itself, finds the token with which a running sum of
// integer weights passes a number (place_finder.cuh). The token is the CPU reference's unless the
// draw or a cut is nearer to a border than the weights' rounding (token_weights.cuh; 1e-10 for a
// vocabulary of 32,000).
#include "kernels/cuda/choose_token.h"

#include <cstdint>

#include "kernels/core/philox.h"
#include "kernels/cuda/block_fold.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/falling_key.cuh"
#include "kernels/cuda/place_finder.cuh"
#include "kernels/cuda/token_weights.cuh"

namespace moed::cuda {
namespace {

// The greatest whole number below share * total, which the sum before the token that reaches the
// share does not pass.
__device__ uint64_t BelowShare(double share, uint64_t total) {
  const double reached = ceil(share * static_cast<double>(total));
  if (reached < 1) return 0;
  const auto below = static_cast<uint64_t>(reached) - 1;
  return below < total ? below : total - 1;
}

// Of z over the tokens that are left, weighted.
__device__ double MeanZ(const TokenWeights& weights, uint64_t* scratch) {
  uint64_t total = 0;
  uint64_t moment = 0;
  for (int64_t id = threadIdx.x; id < weights.vocab; id += blockDim.x) {
    OrderedToken token;
    if (!weights.Get(id, &token)) continue;
    total += weights.Weight(token);
    moment += weights.Moment(token);
  }
  total = BlockFold(total, scratch, Plus());
  moment = BlockFold(moment, scratch, Plus());
  return -static_cast<double>(moment) / static_cast<double>(total);
}

// Each finds a place in what the one before has left; min_p, which finds none, acts after kTopP.
enum Step : int { kTopK, kTopP, kTypical, kDraw, kNumSteps };

__device__ bool IsNeeded(Step step, const SampledRow& row, int64_t vocab) {
  switch (step) {
    case kTopK:
      return row.top_k > 0 && row.top_k < vocab;
    case kTopP:
      return row.top_p < 1.0F;
    case kTypical:
      return row.typical_p < 1.0F;
    default:
      return true;
  }
}

// What the running sum is to pass.
__device__ uint64_t WantedSum(Step step, const SampledRow& row, uint64_t total) {
  switch (step) {
    case kTopK:
      return static_cast<uint64_t>(row.top_k) - 1;
    case kTopP:
      return BelowShare(row.top_p, total);
    case kTypical:
      return BelowShare(row.typical_p, total);
    default: {
      const double share = UniformForToken(row.seed, row.choice_index, row.position);
      const auto wanted = static_cast<uint64_t>(share * static_cast<double>(total));
      return wanted < total ? wanted : total - 1;
    }
  }
}

// One loop over the steps, so that the code of a search is there once: registers.
__device__ int32_t Draw(const SampledRow& row, int32_t likeliest, TokenWeights& weights,
                        uint64_t* memory, PlaceFinderShared& shared) {
  PlaceFinder<TokenWeights> finder(weights, PlaceColumnsAt(memory), shared);
  for (int i = 0; i < kNumSteps; ++i) {
    const auto step = static_cast<Step>(i);
    if (step == kTypical && row.min_p > 0) {
      const double bound = fmin(log(static_cast<double>(row.min_p)), 0.0);
      weights.lowest_z = fmax(weights.lowest_z, bound);
    }
    if (!IsNeeded(step, row, weights.vocab)) continue;
    weights.by_count = step == kTopK;
    // The entropy is ln(total) - mean_z, so a surprise differs from it by |z - mean_z|.
    if (step == kTypical) weights.mean_z = MeanZ(weights, memory);
    weights.by_oddity = step == kTypical;
    const FoundToken found = finder.Find(
        [&](const WeightTotals& totals) { return WantedSum(step, row, totals.weight); });
    if (!found.exists) continue;  // top_k is more than there are
    if (step == kDraw) return IdOf(found.token.place);
    if (step == kTypical) {
      weights.last_typical = found.token;
      weights.cut_by_oddity = true;
    } else {
      weights.last_place = found.token.place;
    }
  }
  return likeliest;
}

__global__ void __launch_bounds__(kMaxRowThreads, kPlaceFindersPerSm)
    ChooseTokenKernel(ChooseTokenParams params) {
  __shared__ PlaceFinderShared shared;
  MOED_DYNAMIC_SHARED(uint64_t, memory);
  const SampledRow row = params.rows[blockIdx.x];
  const float* logits = params.logits + blockIdx.x * params.vocab;
  const uint32_t* keys = row.keys_slot < 0 ? nullptr : params.keys + row.keys_slot * params.vocab;

  uint64_t best = ~uint64_t{0};
  for (int64_t id = threadIdx.x; id < params.vocab; id += blockDim.x) {
    const uint32_t key = keys == nullptr ? FallingKey(Tame(logits[id])) : keys[id];
    const uint64_t place = PlaceOf(key, id);
    best = place < best ? place : best;
  }
  best = BlockFold(best, memory, Lesser());
  int32_t token = IdOf(best);
  if (row.temperature > 0 && KeyOf(best) < kMinusInfinityKey) {
    TokenWeights weights =
        WeighTokens(logits, keys, params.vocab, LogitOf(KeyOf(best)), row.temperature);
    token = Draw(row, token, weights, memory, shared);
  }
  if (threadIdx.x == 0) {
    params.token_ids[blockIdx.x] = token;
    params.last_sampled[row.slot] = token;
  }
}

}  // namespace

LaunchError LaunchChooseToken(const LaunchContext& context, const ChooseTokenParams& params) {
  unsigned threads = ThreadsForVocab(params.vocab);
  int64_t shared_bytes = threads * static_cast<int64_t>(sizeof(uint64_t));
  if (params.any_draws) {
    constexpr int64_t kStatic = sizeof(PlaceFinderShared);
    while (threads > 64 &&
           PlaceColumnBytes(threads) + kStatic > context.max_shared_bytes_per_block) {
      threads = (threads / 2 + 31) / 32 * 32;
    }
    shared_bytes = PlaceColumnBytes(threads);
  }
  return MOED_LAUNCH(context, ChooseTokenKernel, dim3(static_cast<unsigned>(params.num_rows)),
                     dim3(threads), static_cast<size_t>(shared_bytes), params);
}

}  // namespace moed::cuda
