// A copy from device memory to device memory, in words of the compute seam.
#pragma once

#include "kernels/backend.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"

namespace moed {

// Enqueues to = from: dense views of one size and dtype that do not overlap. `first_row` is a
// device tensor [1] int32 of 0 (Activations::first_row).
inline void CopyRow(Backend& backend, Stream& stream, ConstTensorView first_row,
                    ConstTensorView from, TensorView to) {
  if (from.empty()) return;
  backend.GatherRows(stream,
                     {.x = ConstTensorView(from.raw(), from.dtype(), {1, from.num_elements()}),
                      .row_index = first_row,
                      .out = TensorView(to.raw(), to.dtype(), {1, to.num_elements()})});
}

}  // namespace moed
