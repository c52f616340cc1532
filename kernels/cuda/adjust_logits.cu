// Applies a request's lists to its row, as keys that order tokens by falling logit
// (falling_key.cuh) and hold those that no draw may take behind all others.
//
//   rows [num_rows], pieces [num_pieces] with their words, logits [num_rows, vocab] float32 ->
//   keys [slots, vocab], written whole by a row's first piece, changed by the next
//   grid: num_pieces blocks; block: ThreadsForVocab
//
// The same roundings as kernels/cpu/adjust_logits.cc: a bias is added in float32, the penalties of
// a token are computed in double and rounded once. Their products are exact in double, so that a
// fused multiply-add changes nothing.
#include "kernels/cuda/adjust_logits.h"

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/falling_key.cuh"

namespace moed::cuda {
namespace {

__device__ float Finite(double logit) {
  constexpr double kLargest = 3.4028234663852886e38;
  return static_cast<float>(fmin(fmax(logit, -kLargest), kLargest));
}

__device__ float Penalised(float logit, const SampledRow& row, uint32_t seen) {
  const bool in_prompt = (seen & kInPrompt) != 0;
  const auto num_drawn = static_cast<int32_t>(seen & ~kInPrompt);
  double result = logit;
  if (in_prompt || num_drawn > 0) {
    result = result > 0 ? result / row.repetition_penalty : result * row.repetition_penalty;
  }
  result -= static_cast<double>(row.frequency_penalty) * num_drawn;
  if (num_drawn > 0) result -= row.presence_penalty;
  return Finite(result);
}

__global__ void __launch_bounds__(kMaxRowThreads) AdjustLogitsKernel(AdjustLogitsParams params) {
  const TokenListPiece piece = params.pieces[blockIdx.x];
  const SampledRow row = params.rows[piece.row];
  const float* logits = params.logits + piece.row * params.vocab;
  uint32_t* keys = params.keys + row.keys_slot * params.vocab;
  const auto thread = static_cast<int64_t>(threadIdx.x);
  const auto stride = static_cast<int64_t>(blockDim.x);

  if (piece.is_first != 0) {
    for (int64_t id = thread; id < params.vocab; id += stride) {
      keys[id] = row.is_restricted != 0 ? kNotAllowedKey : FallingKey(Tame(logits[id]));
    }
    __syncthreads();
  }
  const uint32_t* words = params.words + piece.first_word[kAllowedList];
  for (int64_t i = thread; i < piece.num_items[kAllowedList]; i += stride) {
    keys[words[i]] = FallingKey(Tame(logits[words[i]]));
  }
  __syncthreads();
  words = params.words + piece.first_word[kBiasList];
  for (int64_t i = thread; i < piece.num_items[kBiasList]; i += stride) {
    uint32_t& key = keys[words[2 * i]];
    if (key < kMinusInfinityKey) {
      key = FallingKey(Finite(LogitOf(key) + __uint_as_float(words[2 * i + 1])));
    }
  }
  __syncthreads();
  words = params.words + piece.first_word[kSeenList];
  for (int64_t i = thread; i < piece.num_items[kSeenList]; i += stride) {
    uint32_t& key = keys[words[2 * i]];
    if (key < kMinusInfinityKey) {
      key = FallingKey(Penalised(LogitOf(key), row, words[2 * i + 1]));
    }
  }
  __syncthreads();
  // An id may be listed twice. What is not allowed stays what it is.
  words = params.words + piece.first_word[kSuppressedList];
  for (int64_t i = thread; i < piece.num_items[kSuppressedList]; i += stride) {
    atomicMax(&keys[words[i]], kSuppressedKey);
  }
}

}  // namespace

LaunchError LaunchAdjustLogits(const LaunchContext& context, const AdjustLogitsParams& params) {
  return MOED_LAUNCH(context, AdjustLogitsKernel, dim3(static_cast<unsigned>(params.num_pieces)),
                     dim3(ThreadsForVocab(params.vocab)), 0, params);
}

}  // namespace moed::cuda
