// Equal pieces of memory for the threads that run one kernel together.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/core/check.h"

namespace moed {

// As many slots as the pool has threads, so that a free one always exists inside ParallelFor.
class ScratchSlots {
 public:
  ScratchSlots() = default;
  // `memory` is num_slots * slot_bytes, 64-byte aligned like slot_bytes itself; not owned.
  ScratchSlots(std::byte* memory, int num_slots, int64_t slot_bytes)
      : memory_(memory),
        num_slots_(num_slots),
        slot_bytes_(slot_bytes),
        taken_(std::make_unique<std::atomic<bool>[]>(static_cast<size_t>(num_slots))) {}

  int64_t slot_bytes() const { return slot_bytes_; }

  // One slot, until the lease ends. Thread-safe.
  class Lease {
   public:
    explicit Lease(ScratchSlots& slots) : slots_(slots), slot_(slots.Take()) {}
    ~Lease() { slots_.taken_[static_cast<size_t>(slot_)].store(false, std::memory_order_release); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    template <typename T>
    T* data() const {
      return reinterpret_cast<T*>(slots_.memory_ + slot_ * slots_.slot_bytes_);
    }

   private:
    ScratchSlots& slots_;
    const int64_t slot_;
  };

 private:
  int64_t Take() {
    for (int slot = 0; slot < num_slots_; ++slot) {
      if (!taken_[static_cast<size_t>(slot)].exchange(true, std::memory_order_acquire)) {
        return slot;
      }
    }
    CheckFailed(__FILE__, __LINE__, "a scratch slot is free",
                "PrepareWorkspace was not called, or two threads use one backend");
  }

  std::byte* memory_ = nullptr;
  int num_slots_ = 0;
  int64_t slot_bytes_ = 0;
  std::unique_ptr<std::atomic<bool>[]> taken_;
};

}  // namespace moed
