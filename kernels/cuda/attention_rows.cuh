// The arithmetic of one row of attention. It is the same wherever a row is computed, so that its
// bits depend on its own context alone:
//  - online softmax (Milakov and Gimelshein 2018, algorithm 3) over tiles of kTileTokens positions,
//    in ascending order, from nothing at the start of each piece of kPieceTokens;
//  - then the pieces' results are joined, in ascending order, by the rule that joins two tiles;
//  - tiles and pieces of which the row sees nothing change nothing, and may be left out.
// Scores are in units of log2(e), so that weights are powers of two. Products and sums that one
// kernel might fuse and another not are spelled out.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/attention_work.cuh"
#include "kernels/cuda/device.cuh"

namespace moed::cuda {

// 2^x within 2 units in the last place; 0 for results below the normal range.
__device__ __forceinline__ float Exp2(float x) {
#if defined(__CUDACC__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return std::exp2(x);
#endif
}

__device__ __forceinline__ float MinusInfinity() { return -HUGE_VALF; }

// What scores are taken relative to: the largest, or 0 where there is none yet.
__device__ __forceinline__ float ReferenceFor(float largest) {
  return largest == MinusInfinity() ? 0.0F : largest;
}

// Joins two parts of a row: result = before * keep + after * take.
struct JoinFactors {
  float keep = 0;
  float take = 0;
};

// `largest` is that of `before`, and then of both.
__device__ __forceinline__ JoinFactors JoinLargest(float& largest, float after) {
  const float before = largest;
  largest = fmaxf(before, after);
  const float reference = ReferenceFor(largest);
  return {Exp2(before - reference), Exp2(after - reference)};
}

__device__ __forceinline__ float Join(float before, float after, JoinFactors factors) {
  return __fmaf_rn(before, factors.keep, __fmul_rn(after, factors.take));
}

// A sum of weighted values over the sum of weights; never -0, for a tile that adds nothing may turn
// that into 0.
__device__ __forceinline__ float Normalised(float sum, float weights) {
  return __fadd_rn(__fdiv_rn(sum, weights), 0.0F);
}

// The rows [first_row, first_row + tile) of a chunk for one group of heads.
struct QueryTile {
  const PagedAttentionParams& params;
  const Chunk& chunk;
  int first_row = 0;
  int kv_head = 0;

  __device__ int num_rows() const { return chunk.num_tokens * HeadsPerGroup(params); }
  __device__ PositionRange Seen(int row) const {
    return SeenByToken(params, chunk, row / HeadsPerGroup(params));
  }
  // Over all tokens and heads.
  __device__ int64_t OutRow(int row) const {
    const int group = HeadsPerGroup(params);
    return static_cast<int64_t>(chunk.first_token + row / group) * params.num_heads +
           kv_head * group + row % group;
  }
  // Of row `row`'s partial result of a piece.
  __device__ int64_t PartialRow(int row, int64_t first_partial, int piece) const {
    const int group = HeadsPerGroup(params);
    const int64_t partial = first_partial + static_cast<int64_t>(row / group) * chunk.num_pieces +
                            piece - chunk.first_piece;
    return partial * params.num_heads + kv_head * group + row % group;
  }
};

// What the first `tile_rows` of a tile see: all of them, and each of them.
struct TileRange {
  PositionRange any;
  PositionRange all;
};

__device__ __forceinline__ TileRange RangeOf(const QueryTile& tile, int tile_rows) {
  const int num_rows = tile.num_rows();
  if (tile.first_row >= num_rows) return {};
  const int end = tile.first_row + tile_rows;
  const PositionRange first = tile.Seen(tile.first_row);
  const PositionRange last = tile.Seen((end < num_rows ? end : num_rows) - 1);
  return {{first.begin, last.end}, {last.begin, first.end}};
}

}  // namespace moed::cuda
