// Views of dense row-major tensors in host or device memory. A view owns nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/core/check.h"
#include "kernels/core/dtype.h"
#include "kernels/core/float_types.h"

namespace moed {

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType kValue = DType::kFloat32;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType kValue = DType::kBFloat16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType kValue = DType::kFloat16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType kValue = DType::kInt32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType kValue = DType::kInt64;
};

// `Void` is void or const void.
template <typename Void>
class BasicTensorView {
 public:
  static constexpr int kMaxRank = 4;
  template <typename T>
  using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;

  BasicTensorView() = default;
  BasicTensorView(Void* data, DType dtype, std::initializer_list<int64_t> shape)
      : data_(data), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
    MOED_CHECK(shape.size() <= kMaxRank, "a view has at most four dimensions");
    int axis = 0;
    for (const int64_t dim : shape) shape_[axis++] = dim;
  }
  // A mutable view is also a const one.
  template <typename Other>
  requires(std::is_const_v<Void> && !std::is_const_v<Other>)
      BasicTensorView(const BasicTensorView<Other>& other)  // NOLINT(google-explicit-constructor)
      : data_(other.raw()), dtype_(other.dtype()), rank_(other.rank()) {
    for (int axis = 0; axis < rank_; ++axis) shape_[axis] = other.dim(axis);
  }

  bool empty() const { return num_elements() == 0; }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t num_elements() const {
    if (rank_ == 0) return 0;
    int64_t count = 1;
    for (int axis = 0; axis < rank_; ++axis) count *= shape_[axis];
    return count;
  }
  int64_t bytes() const { return num_elements() * DTypeBytes(dtype_); }

  Void* raw() const { return data_; }
  template <typename T>
  Element<T>* data() const {
    MOED_CHECK(DTypeOf<T>::kValue == dtype_, "a tensor is read in another dtype than its own");
    return static_cast<Element<T>*>(data_);
  }

  // The view of rows [begin, begin + count) along the first axis.
  BasicTensorView Rows(int64_t begin, int64_t count) const {
    MOED_CHECK(rank_ > 0 && begin >= 0 && count >= 0 && begin + count <= shape_[0],
               "rows outside the tensor");
    using Byte = Element<std::byte>;
    BasicTensorView view = *this;
    const int64_t row_bytes = shape_[0] == 0 ? 0 : bytes() / shape_[0];
    view.data_ = static_cast<Byte*>(data_) + begin * row_bytes;
    view.shape_[0] = count;
    return view;
  }

 private:
  Void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  int rank_ = 0;
  std::array<int64_t, kMaxRank> shape_{};
};

using TensorView = BasicTensorView<void>;
using ConstTensorView = BasicTensorView<const void>;

}  // namespace moed
