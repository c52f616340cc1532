// Compiled with AVX-512 F, BW, DQ, VL and BF16.
#include "kernels/cpu/simd/kernel_table.h"
#include "kernels/cpu/simd/tile_bf16_pairs.h"

namespace moed {
namespace {

constexpr IsaKernels WithBf16Pairs(IsaKernels table) {
  table.bf16_pairs = true;
  table.tile_bfloat16 = PairTile;
  return table;
}

}  // namespace

const IsaKernels& Avx512Bf16Kernels() {
  static constexpr IsaKernels kTable = WithBf16Pairs(MakeKernelTable("AVX-512 BF16"));
  return kTable;
}

}  // namespace moed
