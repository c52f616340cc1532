// The table of the including file's instruction set.
#pragma once

#include "kernels/cpu/simd/attention.h"
#include "kernels/cpu/simd/isa_kernels.h"
#include "kernels/cpu/simd/row_ops.h"
#include "kernels/cpu/simd/tile.h"

namespace moed {
namespace {

constexpr IsaKernels MakeKernelTable(const char* name) {
  return {
      .name = name,
      .panel_columns = kPanelColumns,
      .tile_rows = kTileRows,
      .bf16_pairs = false,
      .tile_float32 = Tile<float>,
      .tile_bfloat16 = Tile<uint16_t>,
      .silu_multiply = SiluMultiply,
      .widen = Widen,
      .narrow = Narrow,
      .rms_norm = RmsNormRow,
      .router_logits = RouterLogits,
      .attend = Attend,
      .maximum = Maximum,
      .sum_exp = SumExp,
      .sum_z_exp = SumZExp,
  };
}

}  // namespace
}  // namespace moed
