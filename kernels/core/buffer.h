// Owning memory, on the host or a device, given back through the function that made it.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/core/check.h"
#include "kernels/core/dtype.h"
#include "kernels/core/tensor_view.h"

namespace moed {

// Move-only. Empty when default-constructed or moved from.
class Buffer {
 public:
  using Release = std::function<void(void*)>;

  Buffer() = default;
  Buffer(void* data, int64_t bytes, Release release)
      : data_(data), bytes_(bytes), release_(std::move(release)) {}
  ~Buffer() { Reset(); }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        release_(std::exchange(other.release_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      Reset();
      data_ = std::exchange(other.data_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
      release_ = std::exchange(other.release_, nullptr);
    }
    return *this;
  }

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

  // A view of the first elements; the shape must fit the buffer.
  TensorView View(DType dtype, std::initializer_list<int64_t> shape) const {
    TensorView view(data_, dtype, shape);
    MOED_CHECK(view.bytes() <= bytes_, "a view is larger than its buffer");
    return view;
  }

 private:
  void Reset() {
    if (data_ != nullptr && release_) release_(data_);
    data_ = nullptr;
  }

  void* data_ = nullptr;
  int64_t bytes_ = 0;
  Release release_;
};

// Zeroed host memory, 64-byte aligned; on Linux backed by huge pages where they are offered.
// RESOURCE_EXHAUSTED when the system has not enough.
absl::StatusOr<Buffer> AllocateHostBuffer(int64_t bytes);

}  // namespace moed
