// Host tensors between float types.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/core/tensor_view.h"

namespace moed {

// out[i] = source element begin + i, for `count` elements of a float type.
void ReadFloats(const ConstTensorView& source, int64_t begin, int64_t count, float* out);

// Writes `count` floats into elements begin... of `target`, float32 or bfloat16, rounding to
// nearest even.
void WriteFloats(const float* values, int64_t begin, int64_t count, const TensorView& target);

}  // namespace moed
