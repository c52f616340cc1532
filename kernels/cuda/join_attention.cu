// Rows of split chunks from the results of their pieces:
//   partial_sums [partials, num_heads, head_dim] float32, partial_stats [partials, num_heads, 2].
// Grid: (num_chunks * parts), a part some of a chunk's heads. Block: kThreads; a thread joins one
// dimension of one row after another, the pieces in ascending order. Chunks that are not split, or
// one piece, have nothing to do.
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/attention_work.cuh"
#include "kernels/cuda/paged_attention.h"

namespace moed::cuda {
namespace {

constexpr int kThreads = 128;

// Partial results of the chunks before `index`, by all threads of the block.
__device__ int64_t PartialsBefore(const PagedAttentionParams& params, int index) {
  __shared__ int64_t of_warp[kThreads / kWarpSize];
  const auto thread = static_cast<int>(threadIdx.x);
  int64_t count = 0;
  for (int c = thread; c < index; c += kThreads) count += PartialsOf(params, ReadChunk(params, c));
  count = WarpInclusiveSum(count);
  if (thread % kWarpSize == kWarpSize - 1) of_warp[thread / kWarpSize] = count;
  __syncthreads();
  int64_t total = 0;
  for (const int64_t part : of_warp) total += part;
  return total;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    JoinAttentionKernel(const PagedAttentionParams params, int parts) {
  const int index = static_cast<int>(blockIdx.x) / parts;
  const int part = static_cast<int>(blockIdx.x) % parts;
  const Chunk chunk = ReadChunk(params, index);
  const int64_t count = PartialsOf(params, chunk);
  if (count == 0) return;
  const int64_t first = PartialsBefore(params, index);
  if (!IsSplit(params, chunk, first + count)) return;
  const int heads_per_part = (params.num_heads + parts - 1) / parts;
  const int first_head = part * heads_per_part;
  const int end_head = min(params.num_heads, first_head + heads_per_part);
  const int elements = (end_head - first_head) * params.head_dim;
  for (int token = 0; token < chunk.num_tokens; ++token) {
    for (int i = static_cast<int>(threadIdx.x); i < elements; i += kThreads) {
      const int head = first_head + i / params.head_dim;
      const int d = i % params.head_dim;
      float largest = MinusInfinity();
      float weights = 0;
      float sum = 0;
#if defined(__CUDACC__)
#pragma unroll 8
#endif
      for (int piece = 0; piece < chunk.num_pieces; ++piece) {
        const int64_t partial = first + static_cast<int64_t>(token) * chunk.num_pieces + piece;
        const int64_t row = partial * params.num_heads + head;
        const JoinFactors factors = JoinLargest(largest, params.partial_stats[2 * row]);
        weights = Join(weights, params.partial_stats[2 * row + 1], factors);
        sum = Join(sum, params.partial_sums[row * params.head_dim + d], factors);
      }
      const int64_t row = static_cast<int64_t>(chunk.first_token + token) * params.num_heads + head;
      static_cast<T*>(params.out)[row * params.head_dim + d] =
          FromFloat<T>(Normalised(sum, weights));
    }
  }
}

// Enough blocks to fill the device with few chunks; with many, no more walks over them than needed.
int PartsOf(const LaunchContext& context, const PagedAttentionParams& params) {
  const int wanted = 8 * context.num_sms / params.num_chunks;
  if (wanted < 1) return 1;
  return wanted < params.num_heads ? wanted : params.num_heads;
}

}  // namespace

template <typename T>
LaunchError LaunchJoinAttention(const LaunchContext& context, const PagedAttentionParams& params) {
  const int parts = PartsOf(context, params);
  return MOED_LAUNCH(context, (JoinAttentionKernel<T>),
                     dim3(static_cast<unsigned>(params.num_chunks) * static_cast<unsigned>(parts)),
                     dim3(kThreads), 0, params, parts);
}

template LaunchError LaunchJoinAttention<float>(const LaunchContext&, const PagedAttentionParams&);
template LaunchError LaunchJoinAttention<BFloat16>(const LaunchContext&,
                                                   const PagedAttentionParams&);

}  // namespace moed::cuda
