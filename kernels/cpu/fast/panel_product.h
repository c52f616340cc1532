// Rows of activations times one panel of a packed matrix.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/core/tensor_view.h"
#include "kernels/cpu/fast/fast_ops.h"
#include "kernels/cpu/fast/packed_matrix.h"

namespace moed::fast {

// The left operand of a product: row i lies at base + (index ? index[i] : i) * stride_bytes, in the
// dtype that the tiles read.
struct ProductRows {
  const std::byte* base = nullptr;
  int64_t stride_bytes = 0;
  const int32_t* index = nullptr;
};

// The rows of `x`, [num_rows, k] act. Where the tiles read float32 only, bfloat16 is widened into
// the workspace, which the next call of this function overwrites.
ProductRows ReadyRows(const Context& context, const ConstTensorView& x, const int32_t* index);

// c[i] = rows[begin + i] times the panel, for i in [0, count); c: [count, panel_columns], 64-byte
// aligned.
void MultiplyPanel(const IsaKernels& isa, const PackedMatrix& matrix, int64_t panel,
                   const ProductRows& rows, int64_t begin, int64_t count, float* c);

// About the nanoseconds that MultiplyPanel takes.
int64_t PanelWork(const IsaKernels& isa, int64_t in_features, int64_t count);

// out[0, count) = values, in the dtype of `out`; `out` points at one row's first element.
void StoreRow(const IsaKernels& isa, const float* values, int64_t count, DType dtype, void* out);

}  // namespace moed::fast
