// CUDA's barriers, shuffles, votes and warp reductions. `place` is the caller's and never given.
#pragma once

#include <algorithm>
#include <type_traits>

#include "tests/cuda_host/thread.h"

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
namespace moed::cuda_host {

// The first lane of the calling lane's segment.
inline unsigned SegmentStart(int width) { return Lane() & ~(static_cast<unsigned>(width) - 1U); }

inline unsigned MaskBelow(unsigned lane) { return (1U << lane) - 1U; }

template <typename T, typename Reduce>
T ReduceLanes(unsigned mask, T value, const char* call, Place place, Reduce reduce) {
  const auto all = Exchange(mask, value, call, place);
  T result{};
  bool first = true;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!all.Has(lane)) continue;
    result = first ? all.Get(lane) : static_cast<T>(reduce(result, all.Get(lane)));
    first = false;
  }
  return result;
}

}  // namespace moed::cuda_host

#define MOED_PLACE ::moed::cuda_host::Place place = ::moed::cuda_host::Place::Current()

inline void __syncthreads(MOED_PLACE) { moed::cuda_host::BlockBarrier("__syncthreads", place); }
inline int __syncthreads_count(int predicate, MOED_PLACE) {
  return moed::cuda_host::BlockCount(predicate != 0, "__syncthreads_count", place);
}
inline int __syncthreads_or(int predicate, MOED_PLACE) {
  return moed::cuda_host::BlockCount(predicate != 0, "__syncthreads_or", place) > 0;
}
inline int __syncthreads_and(int predicate, MOED_PLACE) {
  return moed::cuda_host::BlockCount(predicate == 0, "__syncthreads_and", place) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffU, MOED_PLACE) {
  moed::cuda_host::WarpBarrier(mask, "__syncwarp", place);
}
inline unsigned __activemask() { return moed::cuda_host::LiveLanes(); }
inline void __nanosleep(unsigned) { moed::cuda_host::Yield(); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, MOED_PLACE) {
  const auto all = moed::cuda_host::Exchange(mask, value, "__shfl_sync", place);
  return all.Get(moed::cuda_host::SegmentStart(width) |
                 (static_cast<unsigned>(source) & (static_cast<unsigned>(width) - 1U)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, MOED_PLACE) {
  const auto all = moed::cuda_host::Exchange(mask, value, "__shfl_xor_sync", place);
  const unsigned source = moed::cuda_host::Lane() ^ static_cast<unsigned>(bits);
  const unsigned end = moed::cuda_host::SegmentStart(width) + static_cast<unsigned>(width);
  return source < end ? all.Get(source) : value;
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, MOED_PLACE) {
  const auto all = moed::cuda_host::Exchange(mask, value, "__shfl_down_sync", place);
  const unsigned source = moed::cuda_host::Lane() + delta;
  const unsigned end = moed::cuda_host::SegmentStart(width) + static_cast<unsigned>(width);
  return source < end ? all.Get(source) : value;
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, MOED_PLACE) {
  const auto all = moed::cuda_host::Exchange(mask, value, "__shfl_up_sync", place);
  const unsigned lane = moed::cuda_host::Lane();
  return lane >= moed::cuda_host::SegmentStart(width) + delta ? all.Get(lane - delta) : value;
}

inline unsigned __ballot_sync(unsigned mask, int predicate, MOED_PLACE) {
  const auto all = moed::cuda_host::Exchange(mask, predicate, "__ballot_sync", place);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (all.Has(lane) && all.Get(lane) != 0) bits |= 1U << lane;
  }
  return bits;
}
inline int __any_sync(unsigned mask, int predicate, MOED_PLACE) {
  return __ballot_sync(mask, predicate, place) != 0;
}
inline int __all_sync(unsigned mask, int predicate, MOED_PLACE) {
  return __ballot_sync(mask, predicate == 0, place) == 0;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, MOED_PLACE) {
  const auto all = moed::cuda_host::Exchange(mask, value, "__match_any_sync", place);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (all.Has(lane) && all.Get(lane) == value) bits |= 1U << lane;
  }
  return bits;
}

// sm_80's reductions over 32-bit integers.
#define MOED_REDUCE(name, T, expression)                                           \
  inline T name(unsigned mask, T value, MOED_PLACE) {                              \
    return moed::cuda_host::ReduceLanes(mask, value, #name, place,                 \
                                        [](T a, T b) -> T { return expression; }); \
  }
MOED_REDUCE(__reduce_add_sync, unsigned, a + b)
MOED_REDUCE(__reduce_add_sync, int,
            static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
MOED_REDUCE(__reduce_min_sync, unsigned, std::min(a, b))
MOED_REDUCE(__reduce_min_sync, int, std::min(a, b))
MOED_REDUCE(__reduce_max_sync, unsigned, std::max(a, b))
MOED_REDUCE(__reduce_max_sync, int, std::max(a, b))
MOED_REDUCE(__reduce_and_sync, unsigned, a& b)
MOED_REDUCE(__reduce_or_sync, unsigned, a | b)
MOED_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
#undef MOED_REDUCE
#undef MOED_PLACE
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
