#include "tests/cuda_host/host_memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace moed::cuda_host {
namespace {

constexpr size_t kAlignment = 256;
constexpr int kFill = 0xCD;

void Poison([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_POISON_MEMORY_REGION(memory, bytes);
#endif
}

void Unpoison([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
#endif
}

}  // namespace

void Misuse(const char* what) {
  std::fprintf(stderr, "CUDA stand-in: %s\n", what);
  std::abort();
}

void* HostMemory::Allocate(size_t bytes, bool pinned) {
  const MutexLock lock(mutex_);
  if (!pinned && static_cast<int64_t>(bytes) > total_bytes_ - used_bytes_) return nullptr;
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return nullptr;
  std::memset(memory, kFill, bytes);
  if (!pinned) {
    used_bytes_ += static_cast<int64_t>(bytes);
    if (num_open_ == 0) Poison(memory, bytes);
  }
  allocations_.emplace(reinterpret_cast<uintptr_t>(memory), Allocation{bytes, pinned});
  return memory;
}

void HostMemory::Free(void* memory, bool pinned) {
  const MutexLock lock(mutex_);
  const auto found = allocations_.find(reinterpret_cast<uintptr_t>(memory));
  if (found == allocations_.end()) Misuse("memory is released that is not allocated");
  if (found->second.pinned != pinned) Misuse("memory is released as the other kind");
  if (!pinned) {
    used_bytes_ -= static_cast<int64_t>(found->second.bytes);
    Unpoison(memory, found->second.bytes);
  }
  allocations_.erase(found);
  std::free(memory);
}

const HostMemory::Allocation* HostMemory::Find(const void* memory, size_t bytes,
                                               const char* what) const {
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  auto next = allocations_.upper_bound(begin);
  const bool runs_into_next = next != allocations_.end() && next->first < begin + bytes;
  const Allocation* found = nullptr;
  bool past_end = false;
  if (next != allocations_.begin()) {
    const auto& [start, allocation] = *std::prev(next);
    if (begin < start + allocation.bytes) {
      found = &allocation;
      past_end = begin + bytes > start + allocation.bytes;
    }
  }
  if (runs_into_next || past_end) {
    std::fprintf(stderr, "CUDA stand-in: %s of %zu bytes at %p leaves its allocation\n", what,
                 bytes, memory);
    std::abort();
  }
  return found;
}

void HostMemory::CheckRange(const void* memory, size_t bytes, const char* what) const {
  const MutexLock lock(mutex_);
  Find(memory, bytes, what);
}

void HostMemory::CheckDeviceRange(const void* memory, size_t bytes, const char* what) const {
  const MutexLock lock(mutex_);
  const Allocation* allocation = Find(memory, bytes, what);
  if (allocation == nullptr || allocation->pinned) {
    std::fprintf(stderr, "CUDA stand-in: %s of %zu bytes at %p, which is no device memory\n", what,
                 bytes, memory);
    std::abort();
  }
}

void HostMemory::SetTotal(int64_t bytes) {
  const MutexLock lock(mutex_);
  total_bytes_ = bytes;
}

int64_t HostMemory::total_bytes() const {
  const MutexLock lock(mutex_);
  return total_bytes_;
}

int64_t HostMemory::free_bytes() const {
  const MutexLock lock(mutex_);
  return total_bytes_ - used_bytes_;
}

int64_t HostMemory::num_allocations(bool pinned) const {
  const MutexLock lock(mutex_);
  int64_t count = 0;
  for (const auto& [start, allocation] : allocations_) count += allocation.pinned == pinned;
  return count;
}

void HostMemory::Open() {
  const MutexLock lock(mutex_);
  if (++num_open_ > 1) return;
  for (const auto& [start, allocation] : allocations_) {
    if (!allocation.pinned) Unpoison(reinterpret_cast<const void*>(start), allocation.bytes);
  }
}

void HostMemory::Close() {
  const MutexLock lock(mutex_);
  if (--num_open_ > 0) return;
  for (const auto& [start, allocation] : allocations_) {
    if (!allocation.pinned) Poison(reinterpret_cast<const void*>(start), allocation.bytes);
  }
}

}  // namespace moed::cuda_host
