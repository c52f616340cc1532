// Launchers of the attention kernels (paged_attention_*.cu). Plain, for nvcc.
#pragma once

#include <cstdint>

#include "kernels/core/float_types.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

// A row's keys are taken in tiles of kTileTokens and pieces of kPieceTokens positions, both counted
// from the start of the context: see attention_rows.cuh.
inline constexpr int kTileTokens = 32;
inline constexpr int kPieceTokens = 256;
inline constexpr int kMaxHeadDim = 256;
// A chunk with no more rows of queries (tokens times heads of a group) may be split over blocks.
inline constexpr int kMaxSplitRows = 64;

// Shapes as PagedAttentionArgs has them (kernels/backend.h).
struct PagedAttentionParams {
  const float* q = nullptr;
  const void* k_cache = nullptr;
  const void* v_cache = nullptr;
  const int32_t* chunk_starts = nullptr;
  const int32_t* context_lengths = nullptr;
  const int32_t* block_tables = nullptr;
  void* out = nullptr;
  int num_tokens = 0;
  int num_chunks = 0;
  int max_blocks = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int block_size = 0;
  int sliding_window = 0;  // 0: none
  float scale_log2 = 0;    // of q . k, times log2(e)

  // Partial results of split chunks: of the i-th (token, piece) in all chunks and head h, a
  // weighted sum of values, [partial_capacity, num_heads, head_dim], and its largest score (times
  // scale_log2) and sum of weights, [partial_capacity, num_heads, 2].
  float* partial_sums = nullptr;
  float* partial_stats = nullptr;
  int64_t partial_capacity = 0;
};

// A chunk is split when it has at most MaxSplitTokens and its partial results fit; one whose keys
// lie in one piece needs none. All other chunks are for the whole kernels.
constexpr int HeadsPerGroup(const PagedAttentionParams& params) {
  return params.num_heads / params.num_kv_heads;
}
constexpr int MaxSplitTokens(const PagedAttentionParams& params) {
  const int tokens = kMaxSplitRows / HeadsPerGroup(params);
  return tokens < 1 ? 1 : tokens;
}

// Rows of split chunks, piece by piece, into the partial results, or into `out` where there is one
// piece. The cache and `out` are bfloat16, or float32.
LaunchError LaunchSplitAttentionBf16(const LaunchContext& context,
                                     const PagedAttentionParams& params);
LaunchError LaunchSplitAttentionF32(const LaunchContext& context,
                                    const PagedAttentionParams& params);
// Rows of split chunks that have several pieces, from the partial results. T: float or BFloat16.
template <typename T>
LaunchError LaunchJoinAttention(const LaunchContext& context, const PagedAttentionParams& params);
extern template LaunchError LaunchJoinAttention<float>(const LaunchContext&,
                                                       const PagedAttentionParams&);
extern template LaunchError LaunchJoinAttention<BFloat16>(const LaunchContext&,
                                                          const PagedAttentionParams&);
// Rows of all other chunks, each block over all pieces.
LaunchError LaunchWholeAttentionBf16(const LaunchContext& context,
                                     const PagedAttentionParams& params);
LaunchError LaunchWholeAttentionF32(const LaunchContext& context,
                                    const PagedAttentionParams& params);

}  // namespace moed::cuda
