#include "kernels/cuda/cuda_memory.h"

#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/check_weights.h"
#include "kernels/core/status.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

CudaMemory::CudaMemory(const CudaApi& api, int device)
    : api_(api), device_(device), counters_(std::make_shared<Counters>()) {}

absl::StatusOr<Buffer> CudaMemory::Allocate(MemoryKind kind, int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot allocate ", bytes, " bytes for ", MemoryKindName(kind)));
  }
  if (bytes == 0) return Buffer();
  MOED_RETURN_IF_ERROR(CudaStatus(api_, api_.set_device(device_), "choosing the device"));
  void* memory = nullptr;
  const CudaError error = api_.allocate(&memory, static_cast<size_t>(bytes));
  if (error == kCudaErrorMemoryAllocation) return OutOfMemory(kind, bytes);
  MOED_RETURN_IF_ERROR(CudaStatus(api_, error, "allocating device memory"));
  auto* counter = &(*counters_)[static_cast<size_t>(kind)];
  *counter += bytes;
  Buffer buffer(memory, bytes, [&api = api_, counters = counters_, counter, bytes](void* released) {
    api.release(released);
    *counter -= bytes;
  });
  // On the default stream, which the caller's need not wait for: so the host does.
  MOED_RETURN_IF_ERROR(CudaStatus(
      api_, api_.set_bytes(memory, 0, static_cast<size_t>(bytes), nullptr), "clearing memory"));
  MOED_RETURN_IF_ERROR(CudaStatus(api_, api_.synchronize_stream(nullptr), "clearing memory"));
  return buffer;
}

absl::Status CudaMemory::OutOfMemory(MemoryKind kind, int64_t bytes) const {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
  api_.get_memory(&free_bytes, &total_bytes);
  std::string text = absl::StrCat("device ", device_, " has no room for ", bytes, " bytes of ",
                                  MemoryKindName(kind), ": ", free_bytes, " of ", total_bytes,
                                  " are free; this rank holds");
  for (int k = 0; k < kNumMemoryKinds; ++k) {
    absl::StrAppend(&text, k == 0 ? " " : ", ", MemoryKindName(static_cast<MemoryKind>(k)), " ",
                    allocated_bytes(static_cast<MemoryKind>(k)));
  }
  return absl::ResourceExhaustedError(text);
}

absl::StatusOr<Buffer> CudaMemory::AllocatePinned(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("cannot allocate ", bytes, " bytes"));
  }
  if (bytes == 0) return Buffer();
  MOED_RETURN_IF_ERROR(CudaStatus(api_, api_.set_device(device_), "choosing the device"));
  void* memory = nullptr;
  MOED_RETURN_IF_ERROR(CudaStatus(api_, api_.allocate_pinned(&memory, static_cast<size_t>(bytes)),
                                  "allocating page-locked memory"));
  std::memset(memory, 0, static_cast<size_t>(bytes));
  return Buffer(memory, bytes, [&api = api_](void* released) { api.release_pinned(released); });
}

int64_t CudaMemory::allocated_bytes(MemoryKind kind) const {
  return (*counters_)[static_cast<size_t>(kind)];
}

}  // namespace moed::cuda
