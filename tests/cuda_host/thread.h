// A CUDA thread as its kernel sees it: where it is, its block's shared memory and barriers, and
// what it exchanges with the other lanes of its warp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tests/cuda_host/vector_types.h"

namespace moed::cuda_host {

// Where in the source a call stands. As a default argument, of the caller.
struct Place {
  const char* file = "";
  unsigned line = 0;

  static constexpr Place Current(const char* file = __builtin_FILE(),
                                 unsigned line = __builtin_LINE()) {
    return {file, line};
  }
};

// The part of a thread that kernels read; block_runner.cc has the rest.
struct ThreadView {
  uint3 index{};
  unsigned linear = 0;  // in the block, x fastest
  unsigned lane = 0;
};

struct BlockView {
  uint3 index{};
  dim3 block_size;
  dim3 grid_size;
  void* dynamic_shared = nullptr;
};

// Of the fiber that runs. Null outside kernels.
extern constinit thread_local ThreadView* current_thread;
extern constinit thread_local BlockView* current_block;

inline unsigned Lane() { return current_thread->lane; }
inline void* DynamicShared() { return current_block->dynamic_shared; }

// Waits until all threads of the block that have not returned are at the same call.
void BlockBarrier(const char* call, Place place);
// The same; returns how many of them gave true.
int BlockCount(bool value, const char* call, Place place);
// Waits for the lanes of `mask`. Only this orders their accesses to memory.
void WarpBarrier(unsigned mask, const char* call, Place place);
// Lets other threads of the block go on.
void Yield();
// Lanes of this warp that have not returned.
unsigned LiveLanes();

[[noreturn]] void Fail(const char* what, Place place = Place::Current());

inline constexpr size_t kMaxExchangeBytes = 64;

// What the lanes of a warp gave; readable until the thread's next exchange under the same mask.
struct ExchangeSlots {
  const unsigned char* slots = nullptr;  // [32, kMaxExchangeBytes]
  unsigned lanes = 0;                    // that took part
};
ExchangeSlots ExchangeBytes(unsigned mask, const void* value, size_t bytes, const char* call,
                            Place place);
[[noreturn]] void FailAbsentLane(unsigned lane, unsigned lanes);

template <typename T>
class Exchanged {
 public:
  explicit Exchanged(ExchangeSlots slots) : slots_(slots) {}

  unsigned lanes() const { return slots_.lanes; }
  bool Has(unsigned lane) const { return (slots_.lanes >> lane & 1U) != 0; }
  // The value of a lane that took part; of another one CUDA leaves it undefined, and this aborts.
  const T& Get(unsigned lane) const {
    if (lane >= 32 || !Has(lane)) [[unlikely]]
      FailAbsentLane(lane, slots_.lanes);
    return *reinterpret_cast<const T*>(slots_.slots + lane * kMaxExchangeBytes);
  }

 private:
  ExchangeSlots slots_;
};

// Every lane of `mask` gives a value, then may read any of them. No barrier for memory, as CUDA's
// shuffles and votes are none.
template <typename T>
Exchanged<T> Exchange(unsigned mask, const T& value, const char* call = "warp exchange",
                      Place place = Place::Current()) {
  static_assert(sizeof(T) <= kMaxExchangeBytes && std::is_trivially_copyable_v<T>);
  return Exchanged<T>(ExchangeBytes(mask, &value, sizeof(T), call, place));
}

}  // namespace moed::cuda_host

#define threadIdx (::moed::cuda_host::current_thread->index)
#define blockIdx (::moed::cuda_host::current_block->index)
#define blockDim (::moed::cuda_host::current_block->block_size)
#define gridDim (::moed::cuda_host::current_block->grid_size)
#define warpSize 32

#define MOED_DYNAMIC_SHARED(T, name) \
  T* name = reinterpret_cast<T*>(::moed::cuda_host::DynamicShared())
