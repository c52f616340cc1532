// Attention of four rows by one warp in float32. A lane holds the scores of one position of a tile,
// then one in 32 of the dimensions.
#pragma once

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/vector.cuh"

namespace moed::cuda {

// As MmaRows (attention_mma.cuh).
template <int kDimension>
class FmaRows {
 public:
  using Element = float;
  static constexpr int kDim = kDimension;
  static constexpr int kRows = 4;
  static constexpr int kPitch = kDim + 4;  // an odd number of 16-byte units
  static constexpr int kScratchFloats = kRows * (kDim + kTileTokens);
  static constexpr int kTotalFloats = kRows * kDim;
  static_assert(kTileTokens == kWarpSize);

  __device__ explicit FmaRows(float* scratch)
      : query_(scratch), tile_weights_(scratch + kRows * kDim) {}

  __device__ void Start(const QueryTile& tile) {
    __syncwarp();
    MOED_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const bool exists = tile.first_row + r < tile.num_rows();
      const int head_dim = tile.params.head_dim;
      seen_[r] = exists ? tile.Seen(tile.first_row + r) : PositionRange{};
      const float* q =
          exists ? tile.params.q + tile.OutRow(tile.first_row + r) * head_dim : nullptr;
      for (int d = Lane(); d < kDim; d += kWarpSize) {
        query_[r * kDim + d] = exists && d < head_dim ? q[d] : 0.0F;
      }
    }
    __syncwarp();
  }

  __device__ void StartPiece() {
    MOED_UNROLL
    for (int r = 0; r < kRows; ++r) {
      largest_[r] = MinusInfinity();
      weights_[r] = 0;
      MOED_UNROLL
      for (int i = 0; i < kPerLane; ++i) sums_[r][i] = 0;
    }
  }

  template <bool kMasked>
  __device__ void Attend(const Element* keys, const Element* values, int begin, float scale_log2) {
    Vector<float, kRows> weights = Score(keys);
    MOED_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float score = __fmul_rn(weights.at[r], scale_log2);
      if (kMasked && !Sees(r, begin + Lane())) score = MinusInfinity();
      const float factor = JoinLargest(largest_[r], WarpMax(score)).keep;
      const float weight = Exp2(score - ReferenceFor(largest_[r]));
      weights.at[r] = weight;
      weights_[r] = __fmaf_rn(weights_[r], factor, weight);
      MOED_UNROLL
      for (int i = 0; i < kPerLane; ++i) sums_[r][i] = __fmul_rn(sums_[r][i], factor);
    }
    __syncwarp();
    StoreVector(tile_weights_ + Lane() * kRows, weights);
    __syncwarp();
    for (int j = 0; j < kTileTokens; ++j) {
      const auto of_position = LoadVector<kRows>(tile_weights_ + j * kRows);
      bool sees[kRows];
      MOED_UNROLL
      for (int r = 0; r < kRows; ++r) sees[r] = !kMasked || Sees(r, begin + j);
      MOED_UNROLL
      for (int i = 0; i < kPerLane; ++i) {
        const float value = values[j * kPitch + i * kWarpSize + Lane()];
        MOED_UNROLL
        for (int r = 0; r < kRows; ++r) {
          if (sees[r]) sums_[r][i] = __fmaf_rn(of_position.at[r], value, sums_[r][i]);
        }
      }
    }
  }

  __device__ void FinishPiece() {
    MOED_UNROLL
    for (int r = 0; r < kRows; ++r) weights_[r] = WarpSum(weights_[r]);
  }

  __device__ void StartTotals(float* totals) {
    MOED_UNROLL
    for (int r = 0; r < kRows; ++r) {
      total_largest_[r] = MinusInfinity();
      total_weights_[r] = 0;
      MOED_UNROLL
      for (int i = 0; i < kPerLane; ++i) totals[(r * kPerLane + i) * kWarpSize + Lane()] = 0;
    }
  }

  __device__ void JoinPiece(float* totals) {
    MOED_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const JoinFactors factors = JoinLargest(total_largest_[r], largest_[r]);
      total_weights_[r] = Join(total_weights_[r], weights_[r], factors);
      MOED_UNROLL
      for (int i = 0; i < kPerLane; ++i) {
        float& total = totals[(r * kPerLane + i) * kWarpSize + Lane()];
        total = Join(total, sums_[r][i], factors);
      }
    }
  }

  __device__ void TakeTotals(const float* totals) {
    MOED_UNROLL
    for (int r = 0; r < kRows; ++r) {
      largest_[r] = total_largest_[r];
      weights_[r] = total_weights_[r];
      MOED_UNROLL
      for (int i = 0; i < kPerLane; ++i) {
        sums_[r][i] = totals[(r * kPerLane + i) * kWarpSize + Lane()];
      }
    }
  }

  template <typename Element, typename Statistics>
  __device__ void ForEach(const QueryTile& tile, Element element, Statistics statistics) const {
    MOED_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int row = tile.first_row + r;
      if (row >= tile.num_rows()) continue;
      if (Lane() == 0) statistics(row, largest_[r], weights_[r]);
      MOED_UNROLL
      for (int i = 0; i < kPerLane; ++i) {
        const int d = i * kWarpSize + Lane();
        if (d < tile.params.head_dim) element(row, d, sums_[r][i], weights_[r]);
      }
    }
  }

 private:
  static constexpr int kPerLane = kDim / kWarpSize;
  static_assert(kDim % kWarpSize == 0);

  __device__ static int Lane() { return static_cast<int>(threadIdx.x) % kWarpSize; }
  __device__ bool Sees(int r, int position) const {
    return position >= seen_[r].begin && position < seen_[r].end;
  }

  // q . k of the lane's position, in ascending order of dimensions.
  __device__ Vector<float, kRows> Score(const Element* keys) const {
    Vector<float, kRows> scores{};
    const Element* key = keys + Lane() * kPitch;
    for (int d = 0; d < kDim; d += 4) {
      const auto k = LoadVector<4>(key + d);
      MOED_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const auto q = LoadVector<4>(query_ + r * kDim + d);
        MOED_UNROLL
        for (int i = 0; i < 4; ++i) scores.at[r] = __fmaf_rn(q.at[i], k.at[i], scores.at[r]);
      }
    }
    return scores;
  }

  float* const query_;         // [kRows, kDim]
  float* const tile_weights_;  // [kTileTokens, kRows]
  float sums_[kRows][kPerLane];
  PositionRange seen_[kRows];
  float largest_[kRows];
  float weights_[kRows];
  float total_largest_[kRows];
  float total_weights_[kRows];
};

}  // namespace moed::cuda
