// The allocations of the stand-in's device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"

namespace moed::cuda_host {

// Thread-safe.
class HostMemory {
 public:
  // Null where less than `bytes` of the total is left. Filled with 0xCD.
  void* Allocate(size_t bytes, bool pinned);
  // Aborts for memory that is not allocated, or of the other kind.
  void Free(void* memory, bool pinned);

  // Aborts unless [memory, memory + bytes) lies in one allocation or in none.
  void CheckRange(const void* memory, size_t bytes, const char* what) const;
  // The same, and it must be device memory.
  void CheckDeviceRange(const void* memory, size_t bytes, const char* what) const;

  void SetTotal(int64_t bytes);
  int64_t total_bytes() const;
  int64_t free_bytes() const;
  int64_t num_allocations(bool pinned) const;

  // While any thread is between the two, device memory may be touched; otherwise AddressSanitizer
  // reports who does.
  void Open();
  void Close();

 private:
  struct Allocation {
    size_t bytes;
    bool pinned;
  };

  const Allocation* Find(const void* memory, size_t bytes, const char* what) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::map<uintptr_t, Allocation> allocations_ ABSL_GUARDED_BY(mutex_);
  int64_t total_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_open_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Says what was misused and aborts.
[[noreturn]] void Misuse(const char* what);

}  // namespace moed::cuda_host
