// The attention kernel, for any arithmetic of rows (attention_mma.cuh, attention_fma.cuh):
//   q [num_tokens, num_heads, head_dim] float32, paged K and V [num_blocks, num_kv_heads,
//   block_size, head_dim], out [num_tokens, num_heads * head_dim] as the cache.
// Grid: (as many blocks as the device holds at a time, or as there can be work). Each takes every
// gridDim.x-th piece of work; which work there is only the device knows. Block: kWarps warps, of
// which each has its own tile of kRows rows (heads of a group times tokens) and all share the keys
// and values. Dynamic shared memory: kStages tiles of keys and values, the warps' scratch, and
// where kSplit is false their totals. Assumes head_dim <= kDim, and cache rows (num_blocks *
// num_kv_heads * block_size) below 2^31.
//
// Split (decode): one warp, one piece of a chunk. The keys and values of a group are read once for
// all its heads. What limits it is memory: in bfloat16 with head_dim 128 four blocks a
// multiprocessor keep 4 * 2 * 16 KiB under way, four times what latency times bandwidth asks of an
// H200 (0.8 us * 4.8 TB/s / 132 multiprocessors = 29 KB), and tensor cores need a sixth of the time
// that memory does. Floor: 4 * num_kv_heads * head_dim bytes a token over the bandwidth. Expected:
// 85 % of that for long contexts, for partial results add 3 % of traffic (which the second-level
// cache takes) and the last blocks finish some microseconds after the first.
//
// Whole (prompts): up to four warps, all pieces of their rows. Tensor cores and shared memory are
// about equally busy: what a warp loads of keys and values serves 16 rows only.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/attention_work.cuh"
#include "kernels/cuda/device.cuh"

namespace moed::cuda {

template <typename RowsType, bool kSplitWork>
struct AttentionShape {
  using Rows = RowsType;
  using Element = typename Rows::Element;
  static constexpr bool kSplit = kSplitWork;
  static constexpr int64_t kTileBytes = 2 * kTileTokens * Rows::kPitch * sizeof(Element);
  static constexpr int kWarps = kSplit ? 1 : (kTileBytes <= 48 * 1024 ? 4 : 2);
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kStages = kSplit && kTileBytes <= 32 * 1024 ? 3 : 2;
  static constexpr int kMinBlocks =
      kSplit ? 4 : (Rows::kDim <= 64 ? 3 : (Rows::kDim <= 128 ? 2 : 1));
  using Tiles = TileStream<Element, Rows::kDim, Rows::kPitch, kStages, kThreads>;
  static constexpr int kWarpFloats = Rows::kScratchFloats + (kSplit ? 0 : Rows::kTotalFloats);
  static constexpr int64_t kSharedBytes =
      Tiles::kSharedBytes + kWarps * kWarpFloats * static_cast<int64_t>(sizeof(float));
  static_assert(kSharedBytes <= 163 * 1024, "more shared memory than a block has on sm_80");
};

// One piece of work of one warp, and what becomes of it.
template <typename Shape>
class WarpAttention {
 public:
  using Rows = typename Shape::Rows;
  using Element = typename Shape::Element;

  // `shared`: [Shape::kWarpFloats], of the warp alone.
  __device__ WarpAttention(const PagedAttentionParams& params, float* shared)
      : params_(params), totals_(shared + Rows::kScratchFloats), rows_(shared) {}

  __device__ void Start(const QueryTile& tile) {
    range_ = RangeOf(tile, Rows::kRows);
    rows_.Start(tile);
    rows_.StartPiece();
    if constexpr (!Shape::kSplit) rows_.StartTotals(totals_);
  }

  __device__ void Attend(const Element* keys, const Element* values, int tile) {
    const int begin = tile * kTileTokens;
    const int end = begin + kTileTokens;
    if (begin >= range_.all.begin && end <= range_.all.end) {
      rows_.template Attend<false>(keys, values, begin, params_.scale_log2);
    } else if (begin < range_.any.end && end > range_.any.begin) {
      rows_.template Attend<true>(keys, values, begin, params_.scale_log2);
    }
  }

  __device__ void JoinPiece() {
    rows_.FinishPiece();
    rows_.JoinPiece(totals_);
    rows_.StartPiece();
  }

  __device__ void StoreTotals(const QueryTile& tile) {
    rows_.TakeTotals(totals_);
    StoreOut(tile);
  }

  __device__ void StorePiece(const QueryTile& tile, int64_t first_partial, int piece) {
    rows_.FinishPiece();
    if (first_partial < 0) {
      StoreOut(tile);
      return;
    }
    rows_.ForEach(
        tile,
        [&](int row, int d, float sum, float /*weights*/) {
          const int64_t at = tile.PartialRow(row, first_partial, piece);
          params_.partial_sums[at * params_.head_dim + d] = sum;
        },
        [&](int row, float largest, float weights) {
          float* stats = params_.partial_stats + 2 * tile.PartialRow(row, first_partial, piece);
          stats[0] = largest;
          stats[1] = weights;
        });
  }

 private:
  __device__ void StoreOut(const QueryTile& tile) {
    rows_.ForEach(
        tile,
        [&](int row, int d, float sum, float weights) {
          static_cast<Element*>(params_.out)[tile.OutRow(row) * params_.head_dim + d] =
              FromFloat<Element>(Normalised(sum, weights));
        },
        [](int, float, float) {});
  }

  const PagedAttentionParams& params_;
  float* const totals_;
  TileRange range_;
  Rows rows_;
};

// The index-th work of this block: forth and back over the blocks, so that where work falls
// steadily no block always has the most.
__device__ __forceinline__ int64_t WorkIndex(int64_t round) {
  const int64_t blocks = gridDim.x;
  return round * blocks + (round % 2 == 0 ? blockIdx.x : blocks - 1 - blockIdx.x);
}

// What a kernel does.
template <typename Shape>
__device__ __forceinline__ void RunAttention(const PagedAttentionParams& params) {
  constexpr int kTileRows = Shape::kWarps * Shape::Rows::kRows;
  constexpr int kTilesPerPiece = kPieceTokens / kTileTokens;
  MOED_DYNAMIC_SHARED(unsigned char, shared);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  typename Shape::Tiles tiles(params, shared);
  WarpAttention<Shape> attention(
      params,
      reinterpret_cast<float*>(shared + Shape::Tiles::kSharedBytes) + warp * Shape::kWarpFloats);
  WorkCursor cursor(params, Shape::kSplit, kTileRows);
  Work work;
  for (int64_t round = 0; cursor.Find(WorkIndex(round) / params.num_kv_heads, work); ++round) {
    const auto kv_head = static_cast<int>(WorkIndex(round) % params.num_kv_heads);
    QueryTile rows{params, work.chunk, work.first_row, kv_head};
    PositionRange range = RangeOf(rows, kTileRows).any;
    if (Shape::kSplit) {
      const int begin = work.piece * kPieceTokens;
      range.begin = max(range.begin, begin);
      range.end = min(range.end, begin + kPieceTokens);
    }
    const int first = range.begin / kTileTokens;
    const int end = (range.end + kTileTokens - 1) / kTileTokens;
    tiles.Start(work.chunk_index, kv_head, range, first, end);
    rows.first_row += warp * Shape::Rows::kRows;
    attention.Start(rows);
    for (int tile = first; tile < end; ++tile) {
      tiles.Take(tile);
      attention.Attend(tiles.Keys(tile), tiles.Values(tile), tile);
      tiles.Release(tile);
      const bool last = tile + 1 == end || (tile + 1) % kTilesPerPiece == 0;
      if constexpr (!Shape::kSplit) {
        if (last) attention.JoinPiece();
      }
    }
    if constexpr (Shape::kSplit) {
      attention.StorePiece(rows, work.first_partial, work.piece);
    } else {
      attention.StoreTotals(rows);
    }
  }
}

// The grid of a kernel: what the device holds at a time, but no more than there can be work.
template <typename Shape>
dim3 AttentionGrid(const LaunchContext& context, const PagedAttentionParams& params) {
  constexpr int kTileRows = Shape::kWarps * Shape::Rows::kRows;
  const int64_t rows = static_cast<int64_t>(params.num_tokens) * HeadsPerGroup(params);
  int64_t work = BlocksFor(rows, kTileRows) + params.num_chunks;
  if (Shape::kSplit) {
    work *= BlocksFor(static_cast<int64_t>(params.max_blocks) * params.block_size, kPieceTokens);
  }
  // A block takes 1 KiB of a multiprocessor's memory beside its own, and may have all but that.
  const int64_t fit = (context.max_shared_bytes_per_block + 1024) / (Shape::kSharedBytes + 1024);
  int64_t per_sm = Shape::kSplit ? 8 : Shape::kMinBlocks;
  if (fit < per_sm) per_sm = fit < 1 ? 1 : fit;
  int64_t blocks = work * params.num_kv_heads;
  if (blocks > per_sm * context.num_sms) blocks = per_sm * context.num_sms;
  return dim3(static_cast<unsigned>(blocks < 1 ? 1 : blocks));
}

}  // namespace moed::cuda
