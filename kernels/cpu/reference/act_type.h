// Chooses a template by activation dtype.
#pragma once

#include "kernels/core/check.h"
#include "kernels/core/dtype.h"
#include "kernels/core/float_types.h"

namespace moed {

// Calls body(T{}) with T float or BFloat16.
template <typename Body>
void WithActType(DType dtype, Body body) {
  if (dtype == DType::kFloat32) {
    body(float{});
  } else {
    MOED_CHECK(dtype == DType::kBFloat16, "an activation is neither float32 nor bfloat16");
    body(BFloat16{});
  }
}

}  // namespace moed
