// Vectors of the width that the including file is compiled for. Only the kernels_*.cc files of this
// folder include it: all is in an anonymous namespace, so that no instruction set leaks.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace moed {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / 4;

typedef float F32 __attribute__((vector_size(kVectorBytes)));
typedef int32_t I32 __attribute__((vector_size(kVectorBytes)));
typedef uint32_t U32 __attribute__((vector_size(kVectorBytes)));
typedef uint16_t U16 __attribute__((vector_size(kVectorBytes / 2)));  // kLanes of them

#define MOED_INLINE inline __attribute__((always_inline))

// Subtracting +0 keeps the sign of a zero, adding it would not.
MOED_INLINE F32 Set(float x) { return x - F32{}; }

MOED_INLINE F32 Load(const float* from) {
  F32 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// bfloat16 is the upper half of a float.
MOED_INLINE F32 Load(const uint16_t* from) {
  U16 halves;
  std::memcpy(&halves, from, sizeof(halves));
  return reinterpret_cast<F32>(__builtin_convertvector(halves, U32) << 16);
}

MOED_INLINE void Store(F32 value, float* to) { std::memcpy(to, &value, sizeof(value)); }

MOED_INLINE F32 Select(I32 mask, F32 if_true, F32 if_false) {
  return reinterpret_cast<F32>((mask & reinterpret_cast<I32>(if_true)) |
                               (~mask & reinterpret_cast<I32>(if_false)));
}

// Rounds to nearest, ties to even; a NaN stays a quiet NaN (as moed::ToBFloat16).
MOED_INLINE void Store(F32 value, uint16_t* to) {
  const U32 bits = reinterpret_cast<U32>(value);
  const U32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U32 quiet = (bits >> 16) | 0x40u;
  const U32 is_nan = reinterpret_cast<U32>((bits & 0x7fffffffu) > 0x7f800000u);
  const U16 halves = __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), U16);
  std::memcpy(to, &halves, sizeof(halves));
}

// The first `count` < kLanes elements, zeros behind them. The vector code then runs on them as on
// any others: a tail rounds exactly as a body does.
template <typename T>
MOED_INLINE F32 LoadPart(const T* from, int64_t count) {
  T part[kLanes] = {};
  std::memcpy(part, from, static_cast<size_t>(count) * sizeof(T));
  return Load(part);
}

template <typename T>
MOED_INLINE void StorePart(F32 value, int64_t count, T* to) {
  T part[kLanes];
  Store(value, part);
  std::memcpy(to, part, static_cast<size_t>(count) * sizeof(T));
}

// a * b + c, rounded once where the CPU can.
MOED_INLINE F32 MulAdd(F32 a, F32 b, F32 c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// A NaN in b is kept, one in a is not.
MOED_INLINE F32 Max(F32 a, F32 b) { return Select(a > b, a, b); }

// A fixed tree over the lanes.
MOED_INLINE float SumLanes(F32 x) {
  float lanes[kLanes];
  Store(x, lanes);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

MOED_INLINE float MaxLanes(F32 x) {
  float lanes[kLanes];
  Store(x, lanes);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i)
      lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
  }
  return lanes[0];
}

// Runs body(offset, count) with count == kLanes over [0, size), then once with the rest, if any.
template <typename Body>
MOED_INLINE void ForVectors(int64_t size, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) body(i, int64_t{kLanes});
  if (i < size) body(i, size - i);
}

template <typename T>
MOED_INLINE F32 LoadUpTo(const T* from, int64_t count) {
  return count == kLanes ? Load(from) : LoadPart(from, count);
}

template <typename T>
MOED_INLINE void StoreUpTo(F32 value, int64_t count, T* to) {
  if (count == kLanes) {
    Store(value, to);
  } else {
    StorePart(value, count, to);
  }
}

template <int... kLane>
struct LaneList {};
template <int kCount, int... kLane>
struct MakeLanes : MakeLanes<kCount - 1, kCount - 1, kLane...> {};
template <int... kLane>
struct MakeLanes<0, kLane...> {
  using List = LaneList<kLane...>;
};

// a0 b0 a1 b1 ... from the lower (kHalf 0) or the upper (kHalf 1) halves.
template <int kHalf, int... kLane>
MOED_INLINE F32 Interleave(F32 a, F32 b, LaneList<kLane...>) {
  return __builtin_shufflevector(
      a, b, (kHalf * (kLanes / 2) + kLane / 2 + (kLane % 2 == 0 ? 0 : kLanes))...);
}

// Interleaving row i with row i + kLanes / 2, log2(kLanes) times, turns rows into columns.
MOED_INLINE void Transpose(F32 (&square)[kLanes]) {
  using Lanes = MakeLanes<kLanes>::List;
  for (int width = 1; width < kLanes; width *= 2) {
    F32 next[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = Interleave<0>(square[i], square[i + kLanes / 2], Lanes());
      next[2 * i + 1] = Interleave<1>(square[i], square[i + kLanes / 2], Lanes());
    }
    for (int i = 0; i < kLanes; ++i) square[i] = next[i];
  }
}

}  // namespace
}  // namespace moed
