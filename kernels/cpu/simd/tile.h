// The register tile of a product (TileArgs in isa_kernels.h).
#pragma once

#include "kernels/cpu/simd/isa_kernels.h"
#include "kernels/cpu/simd/vector.h"

namespace moed {
namespace {

#if defined(__AVX512F__)
constexpr int kPanelVectors = 4;  // 6 x 4 sums, 4 weights and a broadcast fill 29 of 32 registers
#else
constexpr int kPanelVectors = 2;  // 6 x 2 sums, 2 weights and a broadcast fill 15 of 16
#endif
constexpr int kTileRows = 6;
constexpr int kPanelColumns = kPanelVectors * kLanes;
// How far ahead of use weights are asked for. The hardware's own prefetch stops at 4 KiB pages.
constexpr int64_t kPrefetchBytes = 2048;

template <int kRows>
struct Sums {
  F32 value[kRows][kPanelVectors];

  MOED_INLINE explicit Sums(const TileArgs& args) {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kPanelVectors; ++v) {
        value[r][v] = args.resume ? Load(args.c + r * kPanelColumns + v * kLanes) : F32{};
      }
    }
  }
  MOED_INLINE void StoreTo(float* c) const {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kPanelVectors; ++v) {
        Store(value[r][v], c + r * kPanelColumns + v * kLanes);
      }
    }
  }
};

// Weight is float or uint16_t (bfloat16, widened as it is read); activations are float.
template <typename Weight, int kRows>
void TileRows(const TileArgs& args) {
  const float* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const float*>(args.rows[r]);
  const auto* panel = static_cast<const Weight*>(args.panel);
  Sums<kRows> sums(args);
  for (int64_t k = 0; k < args.k; ++k) {
    const Weight* line = panel + k * kPanelColumns;
    __builtin_prefetch(reinterpret_cast<const char*>(line) + kPrefetchBytes);
    F32 weights[kPanelVectors];
    for (int v = 0; v < kPanelVectors; ++v) weights[v] = Load(line + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const F32 x = Set(rows[r][k]);
      for (int v = 0; v < kPanelVectors; ++v) {
        sums.value[r][v] = MulAdd(x, weights[v], sums.value[r][v]);
      }
    }
  }
  sums.StoreTo(args.c);
}

template <typename Weight>
void Tile(const TileArgs& args) {
  switch (args.num_rows) {
    case 1:
      return TileRows<Weight, 1>(args);
    case 2:
      return TileRows<Weight, 2>(args);
    case 3:
      return TileRows<Weight, 3>(args);
    case 4:
      return TileRows<Weight, 4>(args);
    case 5:
      return TileRows<Weight, 5>(args);
    default:
      return TileRows<Weight, 6>(args);
  }
}

}  // namespace
}  // namespace moed
