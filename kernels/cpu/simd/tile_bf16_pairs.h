// The register tile on vdpbf16ps: each instruction adds the products of two k to every sum.
#pragma once

#include "kernels/cpu/simd/isa_kernels.h"
#include "kernels/cpu/simd/tile.h"
#include "kernels/cpu/simd/vector.h"

namespace moed {
namespace {

MOED_INLINE F32 DotPairs(F32 sum, uint32_t pair, __m512i weights) {
  return _mm512_dpbf16_ps(sum,
                          reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(pair))),
                          reinterpret_cast<__m512bh>(weights));
}

// panel: [ceil(k / 2), kPanelColumns] pairs; an odd k's last pair has a zero above.
template <int kRows>
void PairTileRows(const TileArgs& args) {
  const char* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const char*>(args.rows[r]);
  const char* panel = static_cast<const char*>(args.panel);
  constexpr int64_t kLineBytes = int64_t{kPanelVectors} * kVectorBytes;
  Sums<kRows> sums(args);
  const auto add = [&](int64_t pair, const auto& read) {
    const char* line = panel + pair * kLineBytes;
    __m512i weights[kPanelVectors];
    for (int v = 0; v < kPanelVectors; ++v) {
      __builtin_prefetch(line + kPrefetchBytes + v * kVectorBytes);
      weights[v] = _mm512_loadu_si512(line + v * kVectorBytes);
    }
    for (int r = 0; r < kRows; ++r) {
      const uint32_t x = read(rows[r] + pair * 4);
      for (int v = 0; v < kPanelVectors; ++v) {
        sums.value[r][v] = DotPairs(sums.value[r][v], x, weights[v]);
      }
    }
  };
  const int64_t num_pairs = args.k / 2;
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    add(
        pair, [](const char* from) __attribute__((always_inline)) {
          uint32_t both;
          std::memcpy(&both, from, sizeof(both));
          return both;
        });
  }
  if (args.k % 2 != 0) {
    add(
        num_pairs, [](const char* from) __attribute__((always_inline)) {
          uint16_t single;
          std::memcpy(&single, from, sizeof(single));
          return uint32_t{single};
        });
  }
  sums.StoreTo(args.c);
}

void PairTile(const TileArgs& args) {
  switch (args.num_rows) {
    case 1:
      return PairTileRows<1>(args);
    case 2:
      return PairTileRows<2>(args);
    case 3:
      return PairTileRows<3>(args);
    case 4:
      return PairTileRows<4>(args);
    case 5:
      return PairTileRows<5>(args);
    default:
      return PairTileRows<6>(args);
  }
}

}  // namespace
}  // namespace moed
