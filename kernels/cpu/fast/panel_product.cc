#include "kernels/cpu/fast/panel_product.h"

#include <algorithm>
#include <cstring>

#include "kernels/core/check.h"

namespace moed::fast {

ProductRows ReadyRows(const Context& context, const ConstTensorView& x, const int32_t* index) {
  const int64_t num_rows = x.dim(0);
  const int64_t width = x.dim(1);
  if (context.act == DType::kFloat32 || context.isa.bf16_pairs) {
    return {static_cast<const std::byte*>(x.raw()), width * DTypeBytes(context.act), index};
  }
  MOED_CHECK(num_rows * width <= context.workspace.widened_floats,
             "a product has more rows than the workspace's limits");
  const BFloat16* from = x.data<BFloat16>();
  float* to = context.workspace.widened;
  context.pool.ParallelFor(
      num_rows, Grain(context.pool, num_rows, width / 8), [&](int64_t begin, int64_t end) {
        context.isa.widen(&from[begin * width].bits, (end - begin) * width, to + begin * width);
      });
  return {reinterpret_cast<const std::byte*>(to), width * int64_t{sizeof(float)}, index};
}

void MultiplyPanel(const IsaKernels& isa, const PackedMatrix& matrix, int64_t panel,
                   const ProductRows& rows, int64_t begin, int64_t count, float* c) {
  // With more than one tile of rows, each reads the same piece of the panel again: from L2.
  constexpr int64_t kPieceK = 1024;
  constexpr int kMaxTileRows = 16;
  MOED_CHECK(isa.tile_rows <= kMaxTileRows, "a tile has too many rows");
  const bool bf16 = matrix.dtype() == DType::kBFloat16;
  const auto tile = bf16 ? isa.tile_bfloat16 : isa.tile_float32;
  const int64_t element_bytes = bf16 && isa.bf16_pairs ? 2 : 4;
  const int64_t piece = count > isa.tile_rows ? kPieceK : matrix.in_features();
  const void* tile_rows[kMaxTileRows];
  for (int64_t k = 0; k < matrix.in_features(); k += piece) {
    const void* weights = matrix.panel(panel, k);
    for (int64_t r = 0; r < count; r += isa.tile_rows) {
      const int num_rows = static_cast<int>(std::min<int64_t>(isa.tile_rows, count - r));
      for (int i = 0; i < num_rows; ++i) {
        const int64_t row = begin + r + i;
        tile_rows[i] = rows.base +
                       (rows.index == nullptr ? row : rows.index[row]) * rows.stride_bytes +
                       k * element_bytes;
      }
      tile({.rows = tile_rows,
            .num_rows = num_rows,
            .panel = weights,
            .k = std::min(piece, matrix.in_features() - k),
            .resume = k > 0,
            .c = c + r * isa.panel_columns});
    }
  }
}

int64_t PanelWork(const IsaKernels& isa, int64_t in_features, int64_t count) {
  const int64_t vectors = in_features * isa.panel_columns / 16;
  return std::max(vectors * (count + 2) / 8, int64_t{1});
}

void StoreRow(const IsaKernels& isa, const float* values, int64_t count, DType dtype, void* out) {
  if (dtype == DType::kFloat32) {
    std::memcpy(out, values, static_cast<size_t>(count) * sizeof(float));
  } else {
    isa.narrow(values, count, static_cast<uint16_t*>(out));
  }
}

}  // namespace moed::fast
