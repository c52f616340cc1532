// CUDA's atomics on int, unsigned and 64-bit integers; relaxed, as there. None on floats: their sum
// would depend on the order of the threads.
#pragma once

#include <atomic>
#include <concepts>
#include <type_traits>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
namespace moed::cuda_host {

// nvcc knows int, unsigned and unsigned long long.
template <typename T>
concept AtomicInteger =
    std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;

template <AtomicInteger T, typename Change>
T ChangeAtomically(T* place, Change change) {
  std::atomic_ref<T> cell(*place);
  T old = cell.load(std::memory_order_relaxed);
  while (!cell.compare_exchange_weak(old, change(old), std::memory_order_relaxed)) {
  }
  return old;
}

}  // namespace moed::cuda_host

#define MOED_ATOMIC(name, expression)                                                            \
  template <moed::cuda_host::AtomicInteger T>                                                    \
  T name(T* place, std::type_identity_t<T> value) {                                              \
    return moed::cuda_host::ChangeAtomically(place, [value](T old) -> T { return expression; }); \
  }
MOED_ATOMIC(atomicMin, value < old ? value : old)
MOED_ATOMIC(atomicMax, value > old ? value : old)
MOED_ATOMIC(atomicInc, old >= value ? T{0} : old + 1)
MOED_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef MOED_ATOMIC

#define MOED_ATOMIC(name, method)                                               \
  template <moed::cuda_host::AtomicInteger T>                                   \
  T name(T* place, std::type_identity_t<T> value) {                             \
    return std::atomic_ref<T>(*place).method(value, std::memory_order_relaxed); \
  }
MOED_ATOMIC(atomicAdd, fetch_add)
MOED_ATOMIC(atomicSub, fetch_sub)
MOED_ATOMIC(atomicAnd, fetch_and)
MOED_ATOMIC(atomicOr, fetch_or)
MOED_ATOMIC(atomicXor, fetch_xor)
MOED_ATOMIC(atomicExch, exchange)
#undef MOED_ATOMIC

template <moed::cuda_host::AtomicInteger T>
T atomicCAS(T* place, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*place).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}

// A block runs on one thread of the host, so its order is kept without them; ThreadSanitizer, which
// knows no fences, is to see barriers only.
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
