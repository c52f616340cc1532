#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/tensor_view.h"
#include "parallel/dispatch_buffers.h"
#include "parallel/token_dispatcher.h"

namespace moed {

DispatchHandle::DispatchHandle(DispatchBuffers* buffers) : buffers_(buffers) {
  MOED_CHECK(!buffers_->in_use, "two handles on one exchange");
  buffers_->in_use = true;
}

DispatchHandle::DispatchHandle(DispatchHandle&& other) noexcept
    : buffers_(std::exchange(other.buffers_, nullptr)) {}

DispatchHandle& DispatchHandle::operator=(DispatchHandle&& other) noexcept {
  if (this != &other) {
    if (buffers_ != nullptr) buffers_->in_use = false;
    buffers_ = std::exchange(other.buffers_, nullptr);
  }
  return *this;
}

DispatchHandle::~DispatchHandle() {
  if (buffers_ != nullptr) buffers_->in_use = false;
}

ConstTensorView DispatchHandle::rows() const { return buffers_->arrived_rows_view; }
ConstTensorView DispatchHandle::expert_offsets() const { return buffers_->expert_offsets_view; }
ConstTensorView DispatchHandle::row_index() const { return buffers_->row_index_view; }
ConstTensorView DispatchHandle::out_index() const { return buffers_->out_index_view; }
TensorView DispatchHandle::expert_output() const { return buffers_->expert_output_view; }

}  // namespace moed
