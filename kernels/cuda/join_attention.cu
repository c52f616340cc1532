// Rows of split chunks from the results of their pieces:
//   partial_sums [partials, num_heads, head_dim] float32, partial_stats [partials, num_heads, 2].
// Grid: (num_chunks, num_heads). Block: head_dim threads, in whole warps; a thread joins one
// dimension of one row after another, the pieces in ascending order. Chunks that are not split, or
// one piece, have nothing to do.
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/attention_work.cuh"
#include "kernels/cuda/paged_attention.h"

namespace moed::cuda {
namespace {

// Partial results of the chunks before `index`; each warp for itself.
__device__ int64_t PartialsBefore(const PagedAttentionParams& params, int index) {
  int64_t count = 0;
  for (int c = static_cast<int>(threadIdx.x) % kWarpSize; c < index; c += kWarpSize) {
    count += PartialsOf(params, ReadChunk(params, c));
  }
  return __shfl_sync(kAllLanes, WarpInclusiveSum(count), kWarpSize - 1);
}

template <typename T>
__global__ void __launch_bounds__(kMaxHeadDim)
    JoinAttentionKernel(const PagedAttentionParams params) {
  const auto index = static_cast<int>(blockIdx.x);
  const auto head = static_cast<int>(blockIdx.y);
  const auto d = static_cast<int>(threadIdx.x);
  const Chunk chunk = ReadChunk(params, index);
  const int64_t count = PartialsOf(params, chunk);
  if (count == 0) return;
  const int64_t first = PartialsBefore(params, index);
  if (!IsSplit(params, chunk, first + count) || d >= params.head_dim) return;
  for (int token = 0; token < chunk.num_tokens; ++token) {
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
    static_cast<T*>(params.out)[row * params.head_dim + d] = FromFloat<T>(Normalised(sum, weights));
  }
}

}  // namespace

template <typename T>
LaunchError LaunchJoinAttention(const LaunchContext& context, const PagedAttentionParams& params) {
  const auto threads = BlocksFor(params.head_dim, kWarpSize) * kWarpSize;
  return MOED_LAUNCH(
      context, (JoinAttentionKernel<T>),
      dim3(static_cast<unsigned>(params.num_chunks), static_cast<unsigned>(params.num_heads)),
      dim3(static_cast<unsigned>(threads)), 0, params);
}

template LaunchError LaunchJoinAttention<float>(const LaunchContext&, const PagedAttentionParams&);
template LaunchError LaunchJoinAttention<BFloat16>(const LaunchContext&,
                                                   const PagedAttentionParams&);

}  // namespace moed::cuda
