// Device memory of one backend, counted by purpose.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/cuda/cuda_api.h"

namespace moed::cuda {

// Thread-safe. A buffer may outlive the object it came from, but not the device.
class CudaMemory {
 public:
  CudaMemory(const CudaApi& api, int device);

  // Zeroed, 256-byte aligned (as cudaMalloc gives it). INVALID_ARGUMENT for a negative size;
  // RESOURCE_EXHAUSTED with what was asked for, what is free and what this backend holds by kind.
  absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes);
  // Page-locked host memory, zeroed, which copies to and from the device do not wait for.
  absl::StatusOr<Buffer> AllocatePinned(int64_t bytes);

  int64_t allocated_bytes(MemoryKind kind) const;
  const CudaApi& api() const { return api_; }

 private:
  using Counters = std::array<std::atomic<int64_t>, kNumMemoryKinds>;

  absl::Status OutOfMemory(MemoryKind kind, int64_t bytes) const;

  const CudaApi& api_;
  const int device_;
  std::shared_ptr<Counters> counters_;
};

}  // namespace moed::cuda
