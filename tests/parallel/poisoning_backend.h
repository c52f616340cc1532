// A backend whose exchange memory begins as NaN.
#pragma once

#include <cstdint>
#include <cstring>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "tests/support/forwarding_backend.h"

namespace moed {

// Forwards to a backend of host memory, and fills every kExchange allocation with ones: NaN in
// float32 and bfloat16, -1 in int32. What a dispatch reads before it was written shows.
class PoisoningBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes) override {
    absl::StatusOr<Buffer> buffer = ForwardingBackend::Allocate(kind, bytes);
    if (kind == MemoryKind::kExchange && buffer.ok() && bytes > 0) {
      std::memset(buffer->data(), 0xFF, static_cast<size_t>(bytes));
    }
    return buffer;
  }
};

}  // namespace moed
