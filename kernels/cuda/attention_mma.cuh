// Attention of 16 rows by one warp on tensor cores: bfloat16 cache. Queries and weights are rounded
// to bfloat16, and the weights that are summed are the rounded ones; all sums are float32. That a
// row has the same bits next to any others, and in any place, takes tensor cores that compute each
// row by itself; tests of equal bits on a device hold them to it, for the PTX ISA does not say so.
#pragma once

#include <cstdint>

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/load_matrix.cuh"
#include "kernels/cuda/mma.cuh"

namespace moed::cuda {

// Two floats rounded to nearest, ties to even; `low` in the low half.
__device__ __forceinline__ uint32_t PackBFloat16(float low, float high) {
#if defined(__CUDACC__)
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
#else
  return ToBFloat16(low).bits | static_cast<uint32_t>(ToBFloat16(high).bits) << 16;
#endif
}

// For a tile of which rows see different parts, whose values are not all finite: a weight of 0 is
// then not enough to leave a value out (0 * inf is NaN). The product is taken over the finite
// values, and a second one counts, exactly, what the visible others amount to.
namespace non_finite {

inline constexpr uint32_t kOne = 0x3f80;                // 1 as bfloat16: weights, and +inf
inline constexpr uint32_t kMinusInf = 0x4280;           // 64: more than a tile has positions
inline constexpr uint32_t kNan = 0x4580;                // 4096: 64 times as many
inline constexpr uint32_t kZeroTimesAnything = 0x4980;  // 2^20: of a visible weight 0 or NaN
static_assert(kTileTokens < 64);

__device__ __forceinline__ bool Is(uint32_t bits) { return (bits & 0x7f80U) == 0x7f80U; }

__device__ __forceinline__ uint32_t FiniteHalf(uint32_t bits) { return Is(bits) ? 0U : bits; }

__device__ __forceinline__ uint32_t ValueHalf(uint32_t bits) {
  if (!Is(bits)) return 0;
  if ((bits & 0x7fU) != 0) return kNan;
  return (bits & 0x8000U) != 0 ? kMinusInf : kOne;
}

__device__ __forceinline__ uint32_t WeightHalf(uint32_t bits, bool visible) {
  if (!visible) return 0;
  return bits == 0 || Is(bits) ? kZeroTimesAnything : kOne;
}

template <typename Function>
__device__ __forceinline__ uint32_t OfBoth(uint32_t word, Function function) {
  return function(word & 0xffffU) | function(word >> 16) << 16;
}

__device__ __forceinline__ float Add(float sum, float count) {
  if (count == 0) return sum;
  const float minus = floorf(count / 64);
  const bool both = minus > 0 && count > 64 * minus;
  if (count >= 4096 || both) return sum + NAN;
  return minus > 0 ? sum - HUGE_VALF : sum + HUGE_VALF;
}

}  // namespace non_finite

// kDim: head_dim rounded up to what there is code for; the rest are zeros. A lane holds two rows:
// lane / 4 and that + 8.
template <int kDimension>
class MmaRows {
 public:
  using Element = BFloat16;
  static constexpr int kDim = kDimension;
  static constexpr int kRows = 16;
  // Elements from one position of a tile in shared memory to the next: an odd number of 16-byte
  // units, so that the eight rows of a matrix lie in different banks.
  static constexpr int kPitch = kDim + 8;
  static constexpr int kScratchFloats = 0;           // shared memory of a warp
  static constexpr int kTotalFloats = kRows * kDim;  // the same, for joining pieces

  __device__ explicit MmaRows(float* /*scratch*/) {}

  __device__ void Start(const QueryTile& tile) {
    MOED_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = RowOf(tile, half);
      const bool exists = row < tile.num_rows();
      const int head_dim = tile.params.head_dim;
      seen_[half] = exists ? tile.Seen(row) : PositionRange{};
      const float* q = exists ? tile.params.q + tile.OutRow(row) * head_dim : nullptr;
      MOED_UNROLL
      for (int k = 0; k < kDim / 16; ++k) {
        MOED_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int d = 16 * k + 8 * i + 2 * Pair();
          query_[k].r[2 * i + half] = PackBFloat16(exists && d < head_dim ? q[d] : 0.0F,
                                                   exists && d + 1 < head_dim ? q[d + 1] : 0.0F);
        }
      }
    }
  }

  __device__ void StartPiece() {
    largest_[0] = largest_[1] = MinusInfinity();
    weights_[0] = weights_[1] = 0;
    MOED_UNROLL
    for (int n = 0; n < kDim / 8; ++n) sums_[n] = {};
  }

  // Keys and values of the positions [begin, begin + kTileTokens), [kTileTokens, kPitch]. Without
  // kMasked every row sees all of them.
  template <bool kMasked>
  __device__ void Attend(const Element* keys, const Element* values, int begin, float scale_log2) {
    FragmentD scores[kTileTokens / 8] = {};
    Multiply(keys, scores);
    uint32_t visible = ~0U;
    float largest[2] = {MinusInfinity(), MinusInfinity()};
    MOED_UNROLL
    for (int n = 0; n < kTileTokens / 8; ++n) {
      MOED_UNROLL
      for (int i = 0; i < 4; ++i) {
        float& score = scores[n].r[i];
        score = __fmul_rn(score, scale_log2);
        const int position = begin + 8 * n + 2 * Pair() + i % 2;
        if (kMasked && (position < seen_[i / 2].begin || position >= seen_[i / 2].end)) {
          score = MinusInfinity();
          visible &= ~(1U << (4 * n + i));
        }
        largest[i / 2] = fmaxf(largest[i / 2], score);
      }
    }
    Rescale(largest);
    FragmentA weights[kTileTokens / 16];
    MOED_UNROLL
    for (int n = 0; n < kTileTokens / 8; ++n) {
      MOED_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float reference = ReferenceFor(largest_[half]);
        const uint32_t pair = PackBFloat16(Exp2(scores[n].r[2 * half] - reference),
                                           Exp2(scores[n].r[2 * half + 1] - reference));
        weights_[half] += ToFloat(BFloat16{static_cast<uint16_t>(pair)});
        weights_[half] += ToFloat(BFloat16{static_cast<uint16_t>(pair >> 16)});
        weights[n / 2].r[n % 2 * 2 + half] = pair;
      }
    }
    if (kMasked && HasNonFinite(values)) {
      AddValuesPartly(values, weights, visible);
    } else {
      AddValues(values, weights);
    }
  }

  // Each lane has summed the weights of its own columns only.
  __device__ void FinishPiece() {
    MOED_UNROLL
    for (int half = 0; half < 2; ++half) {
      weights_[half] += __shfl_xor_sync(kAllLanes, weights_[half], 1);
      weights_[half] += __shfl_xor_sync(kAllLanes, weights_[half], 2);
    }
  }

  __device__ void StartTotals(float* totals) {
    total_largest_[0] = total_largest_[1] = MinusInfinity();
    total_weights_[0] = total_weights_[1] = 0;
    MOED_UNROLL
    for (int i = 0; i < kDim / 2; ++i) totals[i * kWarpSize + Lane()] = 0;
  }

  __device__ void JoinPiece(float* totals) {
    JoinFactors factors[2];
    MOED_UNROLL
    for (int half = 0; half < 2; ++half) {
      factors[half] = JoinLargest(total_largest_[half], largest_[half]);
      total_weights_[half] = Join(total_weights_[half], weights_[half], factors[half]);
    }
    MOED_UNROLL
    for (int i = 0; i < kDim / 2; ++i) {
      float& total = totals[i * kWarpSize + Lane()];
      total = Join(total, sums_[i / 4].r[i % 4], factors[i % 4 / 2]);
    }
  }

  // The totals in the place of the piece.
  __device__ void TakeTotals(const float* totals) {
    MOED_UNROLL
    for (int half = 0; half < 2; ++half) {
      largest_[half] = total_largest_[half];
      weights_[half] = total_weights_[half];
    }
    MOED_UNROLL
    for (int i = 0; i < kDim / 2; ++i) sums_[i / 4].r[i % 4] = totals[i * kWarpSize + Lane()];
  }

  // element(row, dimension, sum, weights) for all sums of the rows that exist, and
  // statistics(row, largest, weights) once for each of these.
  template <typename Element, typename Statistics>
  __device__ void ForEach(const QueryTile& tile, Element element, Statistics statistics) const {
    MOED_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = RowOf(tile, half);
      if (row >= tile.num_rows()) continue;
      if (Pair() == 0) statistics(row, largest_[half], weights_[half]);
      MOED_UNROLL
      for (int i = 0; i < kDim / 4; ++i) {
        const int d = i / 2 * 8 + 2 * Pair() + i % 2;
        if (d < tile.params.head_dim) {
          element(row, d, sums_[i / 2].r[2 * half + i % 2], weights_[half]);
        }
      }
    }
  }

 private:
  __device__ static int Lane() { return static_cast<int>(threadIdx.x) % kWarpSize; }
  __device__ static int Pair() { return Lane() % 4; }
  __device__ static int RowOf(const QueryTile& tile, int half) {
    return tile.first_row + Lane() / 4 + 8 * half;
  }

  __device__ void Multiply(const Element* keys, FragmentD* scores) const {
    const Element* row = keys + (Lane() / 16 * 8 + Lane() % 8) * kPitch + Lane() / 8 % 2 * 8;
    MOED_UNROLL
    for (int k = 0; k < kDim / 16; ++k) {
      MOED_UNROLL
      for (int n = 0; n < kTileTokens / 16; ++n) {
        const Matrices m = LoadMatrices<false>(row + 16 * n * kPitch + 16 * k);
        MultiplyAdd(scores[2 * n], query_[k], {{m.r[0], m.r[1]}});
        MultiplyAdd(scores[2 * n + 1], query_[k], {{m.r[2], m.r[3]}});
      }
    }
  }

  // To the new largest scores, of which each lane brings those of its own columns. A factor of 1
  // changes no bits, so that only some warps take the trouble.
  __device__ void Rescale(float (&largest)[2]) {
    float factor[2];
    MOED_UNROLL
    for (int half = 0; half < 2; ++half) {
      largest[half] = fmaxf(largest[half], __shfl_xor_sync(kAllLanes, largest[half], 1));
      largest[half] = fmaxf(largest[half], __shfl_xor_sync(kAllLanes, largest[half], 2));
      factor[half] = JoinLargest(largest_[half], largest[half]).keep;
    }
    if (__any_sync(kAllLanes, factor[0] != 1.0F || factor[1] != 1.0F) == 0) return;
    MOED_UNROLL
    for (int half = 0; half < 2; ++half) {
      weights_[half] = __fmul_rn(weights_[half], factor[half]);
    }
    MOED_UNROLL
    for (int i = 0; i < kDim / 2; ++i) {
      float& sum = sums_[i / 4].r[i % 4];
      sum = __fmul_rn(sum, factor[i % 4 / 2]);
    }
  }

  // The lane's row of four matrices of values: 16 positions by 16 dimensions.
  __device__ static const Element* ValueRow(const Element* values, int k, int n) {
    return values + (16 * k + Lane() % 16) * kPitch + 16 * n + Lane() / 16 * 8;
  }

  __device__ void AddValues(const Element* values, const FragmentA* weights) {
    MOED_UNROLL
    for (int k = 0; k < kTileTokens / 16; ++k) {
      MOED_UNROLL
      for (int n = 0; n < kDim / 16; ++n) {
        const Matrices m = LoadMatrices<true>(ValueRow(values, k, n));
        MultiplyAdd(sums_[2 * n], weights[k], {{m.r[0], m.r[1]}});
        MultiplyAdd(sums_[2 * n + 1], weights[k], {{m.r[2], m.r[3]}});
      }
    }
  }

  __device__ static bool HasNonFinite(const Element* values) {
    const Element* row = values + Lane() * kPitch;
    bool found = false;
    for (int d = 0; d < kDim; d += 8) {
      const Vec16 eight = LoadVec16(row + d);
      MOED_UNROLL
      for (const uint32_t word : eight.words) {
        found = found || non_finite::Is(word) || non_finite::Is(word >> 16);
      }
    }
    return __any_sync(kAllLanes, found) != 0;
  }

  __device__ void AddValuesPartly(const Element* values, const FragmentA* weights,
                                  uint32_t visible) {
    FragmentA counted[kTileTokens / 16];
    MOED_UNROLL
    for (int k = 0; k < kTileTokens / 16; ++k) {
      MOED_UNROLL
      for (int i = 0; i < 4; ++i) {
        const uint32_t bits = visible >> (4 * (2 * k + i / 2) + 2 * (i % 2));
        const uint32_t word = weights[k].r[i];
        counted[k].r[i] = non_finite::WeightHalf(word & 0xffffU, (bits & 1U) != 0) |
                          non_finite::WeightHalf(word >> 16, (bits & 2U) != 0) << 16;
      }
    }
    MOED_UNROLL
    for (int n = 0; n < kDim / 16; ++n) {
      FragmentD counts[2] = {};
      MOED_UNROLL
      for (int k = 0; k < kTileTokens / 16; ++k) {
        const Matrices m = LoadMatrices<true>(ValueRow(values, k, n));
        MOED_UNROLL
        for (int side = 0; side < 2; ++side) {
          FragmentB finite;
          FragmentB others;
          for (int i = 0; i < 2; ++i) {
            finite.r[i] = non_finite::OfBoth(m.r[2 * side + i], non_finite::FiniteHalf);
            others.r[i] = non_finite::OfBoth(m.r[2 * side + i], non_finite::ValueHalf);
          }
          MultiplyAdd(sums_[2 * n + side], weights[k], finite);
          MultiplyAdd(counts[side], counted[k], others);
        }
      }
      MOED_UNROLL
      for (int i = 0; i < 8; ++i) {
        float& sum = sums_[2 * n + i / 4].r[i % 4];
        sum = non_finite::Add(sum, counts[i / 4].r[i % 4]);
      }
    }
  }

  FragmentA query_[kDim / 16];
  FragmentD sums_[kDim / 8];
  PositionRange seen_[2];
  float largest_[2];
  float weights_[2];
  float total_largest_[2];
  float total_weights_[2];
};

}  // namespace moed::cuda
