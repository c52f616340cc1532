// Host memory of one backend, counted by purpose.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"

namespace moed {

// Thread-safe. A buffer may outlive the object it came from.
class CpuMemory {
 public:
  CpuMemory();

  // Zeroed, 64-byte aligned. INVALID_ARGUMENT for a negative size; RESOURCE_EXHAUSTED, with the
  // sizes, for more than the machine's memory less what this object has given out.
  absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes);

  // Bytes given out for `kind` and not yet returned.
  int64_t allocated_bytes(MemoryKind kind) const;

 private:
  using Counters = std::array<std::atomic<int64_t>, kNumMemoryKinds>;

  const int64_t machine_bytes_;
  std::shared_ptr<Counters> counters_;
};

}  // namespace moed
