// Log-softmax of a token of every row, and the most likely tokens with theirs.
//
//   logits [num_rows, vocab] float32, token [num_rows] -> logprobs [num_rows], top_ids and
//   top_logprobs [num_rows, num_top]
//   grid: num_rows blocks; block: ThreadsForVocab, fewer where shared memory is short
//   dynamic shared memory: 8 bytes a thread; with a top PlaceColumnBytes, 88 KiB for 512 threads
//
// Sums of exp are double, in an order that depends on the vocabulary alone; the CPU reference sums
// by falling logit, so that they differ by about 1e-15.
#include "kernels/cuda/log_softmax.h"

#include <cstdint>

#include "kernels/cuda/block_fold.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/falling_key.cuh"
#include "kernels/cuda/place_finder.cuh"
#include "kernels/cuda/sampled_row.h"

namespace moed::cuda {
namespace {

// All tokens alike, by falling logit.
struct CountedTokens {
  const float* logits;
  int64_t vocab;
  float largest;

  __device__ bool Get(int64_t id, OrderedToken* token) const {
    const float logit = Tame(logits[id]);
    token->place = PlaceOf(FallingKey(logit), id);
    token->code = logit == largest ? 0 : LinearCode(static_cast<double>(largest) - logit);
    return true;
  }
  __device__ uint64_t Weight(const OrderedToken&) const { return 1; }
};

struct RowSoftmax {
  float largest;
  double log_sum;  // ln of the sum of exp(logit - largest)

  __device__ float Of(float tamed) const {
    if (tamed == -INFINITY) return -INFINITY;
    return static_cast<float>(static_cast<double>(tamed) - largest - log_sum);
  }
};

__device__ RowSoftmax FindSoftmax(const float* logits, int64_t vocab, uint64_t* memory) {
  uint64_t best = ~uint64_t{0};
  for (int64_t id = threadIdx.x; id < vocab; id += blockDim.x) {
    const uint64_t place = PlaceOf(FallingKey(Tame(logits[id])), id);
    best = place < best ? place : best;
  }
  RowSoftmax softmax;
  softmax.largest = LogitOf(KeyOf(BlockFold(best, memory, Lesser())));
  double sum = 0;
  for (int64_t id = threadIdx.x; id < vocab; id += blockDim.x) {
    const float logit = Tame(logits[id]);
    sum += logit == softmax.largest ? 1.0 : exp(static_cast<double>(logit) - softmax.largest);
  }
  softmax.log_sum = log(BlockFold(sum, reinterpret_cast<double*>(memory), Plus()));
  return softmax;
}

__global__ void __launch_bounds__(kMaxRowThreads, kPlaceFindersPerSm)
    LogSoftmaxKernel(LogSoftmaxParams params) {
  __shared__ PlaceFinderShared shared;
  __shared__ uint64_t top[kMaxTopTokens];
  __shared__ unsigned num_found;
  MOED_DYNAMIC_SHARED(uint64_t, memory);
  const int64_t row = blockIdx.x;
  const float* logits = params.logits + row * params.vocab;
  const RowSoftmax softmax = FindSoftmax(logits, params.vocab, memory);
  if (threadIdx.x == 0) {
    const int32_t token = params.token[row];
    const bool exists = token >= 0 && token < params.vocab;
    params.logprobs[row] = exists ? softmax.Of(Tame(logits[token])) : -INFINITY;
    num_found = 0;
  }
  if (params.num_top == 0) return;

  const CountedTokens tokens = {logits, params.vocab, softmax.largest};
  const PlaceColumns columns = PlaceColumnsAt(memory);
  PlaceFinder<CountedTokens> finder(tokens, columns, shared);
  const int64_t wanted = min(static_cast<int64_t>(params.num_top), params.vocab);
  const uint64_t last =
      finder.Find([&](const WeightTotals&) { return static_cast<uint64_t>(wanted) - 1; })
          .token.place;
  for (int64_t id = threadIdx.x; id < params.vocab; id += blockDim.x) {
    const uint64_t place = PlaceOf(FallingKey(Tame(logits[id])), id);
    if (place <= last) top[atomicAdd(&num_found, 1U)] = place;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < params.num_top;
       i += static_cast<int>(blockDim.x)) {
    const int64_t out = row * params.num_top;
    if (i >= wanted) {
      params.top_ids[out + i] = -1;
      params.top_logprobs[out + i] = -INFINITY;
      continue;
    }
    int rank = 0;
    for (int64_t j = 0; j < wanted; ++j) rank += top[j] < top[i] ? 1 : 0;
    params.top_ids[out + rank] = IdOf(top[i]);
    params.top_logprobs[out + rank] = softmax.Of(LogitOf(KeyOf(top[i])));
  }
}

}  // namespace

LaunchError LaunchLogSoftmax(const LaunchContext& context, const LogSoftmaxParams& params) {
  // The number of threads decides the order of the sums, so it is the same with a top and without.
  unsigned threads = ThreadsForVocab(params.vocab);
  constexpr int64_t kStatic = sizeof(PlaceFinderShared) + sizeof(uint64_t) * kMaxTopTokens + 128;
  while (threads > 64 && PlaceColumnBytes(threads) + kStatic > context.max_shared_bytes_per_block) {
    threads = (threads / 2 + 31) / 32 * 32;
  }
  const int64_t shared_bytes = params.num_top == 0
                                   ? threads * static_cast<int64_t>(sizeof(uint64_t))
                                   : PlaceColumnBytes(threads);
  return MOED_LAUNCH(context, LogSoftmaxKernel, dim3(static_cast<unsigned>(params.num_rows)),
                     dim3(threads), static_cast<size_t>(shared_bytes), params);
}

}  // namespace moed::cuda
