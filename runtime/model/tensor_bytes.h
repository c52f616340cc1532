// Sizes of tensors whose dimensions come from a config or the command line.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>

#include "kernels/core/checked_math.h"
#include "kernels/core/dtype.h"

namespace moed {

// Too large to count: it never fits, so that a check against available memory refuses it.
inline constexpr int64_t kUncountableBytes = std::numeric_limits<int64_t>::max();

// a + b, at most kUncountableBytes. Neither is negative.
constexpr int64_t AddBytes(int64_t a, int64_t b) {
  return CheckedAdd(a, b).value_or(kUncountableBytes);
}

// a * b, at most kUncountableBytes. Neither is negative.
constexpr int64_t MulBytes(int64_t a, int64_t b) {
  return CheckedMul(a, b).value_or(kUncountableBytes);
}

// Bytes of a dense tensor, at most kUncountableBytes. No dimension is negative.
constexpr int64_t TensorBytes(DType dtype, std::initializer_list<int64_t> shape) {
  int64_t bytes = DTypeBytes(dtype);
  for (const int64_t dim : shape) bytes = MulBytes(bytes, dim);
  return bytes;
}

}  // namespace moed
