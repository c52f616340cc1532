// A view whose shape is known at run time.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/check.h"
#include "kernels/core/tensor_view.h"

namespace moed {

// `shape` has one to four dimensions.
inline ConstTensorView ViewOfShape(const void* data, DType dtype,
                                   const std::vector<int64_t>& shape) {
  switch (shape.size()) {
    case 1:
      return ConstTensorView(data, dtype, {shape[0]});
    case 2:
      return ConstTensorView(data, dtype, {shape[0], shape[1]});
    case 3:
      return ConstTensorView(data, dtype, {shape[0], shape[1], shape[2]});
    default:
      MOED_CHECK(shape.size() == 4, "a view has one to four dimensions");
      return ConstTensorView(data, dtype, {shape[0], shape[1], shape[2], shape[3]});
  }
}

}  // namespace moed
