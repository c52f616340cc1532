// The two products of attention over one tile of cache positions, as register tiles. Rows are
// query heads of tokens; every element is summed in ascending order whatever the tiling.
#pragma once

#include "kernels/cpu/simd/isa_kernels.h"
#include "kernels/cpu/simd/tile.h"
#include "kernels/cpu/simd/vector.h"

namespace moed {
namespace {

constexpr int kScoreVectors = kPanelVectors;
static_assert(kAttentionTile % (kScoreVectors * kLanes) == 0);
constexpr int kQueryRows = 4;

// scores[r][j] = sum over d of q[r][d] * keys[d][j] for j of one group of vectors.
template <int kRows>
void ScoreTile(const float* q, int64_t head_dim, const float* keys, float* scores) {
  F32 sum[kRows][kScoreVectors] = {};
  for (int64_t d = 0; d < head_dim; ++d) {
    F32 key[kScoreVectors];
    for (int v = 0; v < kScoreVectors; ++v) key[v] = Load(keys + d * kAttentionTile + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const F32 x = Set(q[r * head_dim + d]);
      for (int v = 0; v < kScoreVectors; ++v) sum[r][v] = MulAdd(x, key[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kScoreVectors; ++v) {
      Store(sum[r][v], scores + r * kAttentionTile + v * kLanes);
    }
  }
}

// Scores of all rows for positions [0, num_keys) of the tile, and of no one's beyond.
void Scores(const float* q, int64_t num_rows, int64_t head_dim, const float* keys, int64_t num_keys,
            float* scores) {
  for (int64_t r = 0; r < num_rows; r += kQueryRows) {
    for (int64_t j = 0; j < num_keys; j += kScoreVectors * kLanes) {
      const float* from = q + r * head_dim;
      float* to = scores + r * kAttentionTile + j;
      switch (num_rows - r) {
        case 1:
          ScoreTile<1>(from, head_dim, keys + j, to);
          break;
        case 2:
          ScoreTile<2>(from, head_dim, keys + j, to);
          break;
        case 3:
          ScoreTile<3>(from, head_dim, keys + j, to);
          break;
        default:
          ScoreTile<kQueryRows>(from, head_dim, keys + j, to);
      }
    }
  }
}

// sums[r][d] += sum over j in [begin, end), ascending, of weights[r][j] * values[j][d].
template <int kRows, int kVectors>
MOED_INLINE void ValueColumns(const float* weights, const float* values, int64_t width,
                              int64_t begin, int64_t end, float* sums) {
  F32 sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Load(sums + r * width + v * kLanes);
  }
  for (int64_t j = begin; j < end; ++j) {
    F32 value[kVectors];
    for (int v = 0; v < kVectors; ++v) value[v] = Load(values + j * width + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const F32 weight = Set(weights[r * kAttentionTile + j]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = MulAdd(weight, value[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) Store(sum[r][v], sums + r * width + v * kLanes);
  }
}

// `width`: head_dim rounded up to whole vectors, the stride of values and sums.
template <int kRows>
void ValueTile(const float* weights, const float* values, int64_t width, int64_t begin, int64_t end,
               float* sums) {
  if (begin >= end) return;
  int64_t d = 0;
  for (; d + kScoreVectors * kLanes <= width; d += kScoreVectors * kLanes) {
    ValueColumns<kRows, kScoreVectors>(weights, values + d, width, begin, end, sums + d);
  }
  for (; d < width; d += kLanes) {
    ValueColumns<kRows, 1>(weights, values + d, width, begin, end, sums + d);
  }
}

// ValueTile of 1..kQueryRows rows.
void ValueTileOf(int64_t rows, const float* weights, const float* values, int64_t width,
                 int64_t begin, int64_t end, float* sums) {
  switch (rows) {
    case 1:
      return ValueTile<1>(weights, values, width, begin, end, sums);
    case 2:
      return ValueTile<2>(weights, values, width, begin, end, sums);
    case 3:
      return ValueTile<3>(weights, values, width, begin, end, sums);
    default:
      return ValueTile<kQueryRows>(weights, values, width, begin, end, sums);
  }
}

}  // namespace
}  // namespace moed
