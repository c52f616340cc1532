// CUDA's functions of one thread: bits, rounding, quick approximations (here exact ones), cached
// loads.
#pragma once

#include <math.h>  // NOLINT(modernize-deprecated-headers): declares glibc's __expf

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
#define MOED_MIN_MAX(T)                               \
  constexpr T min(T a, T b) { return b < a ? b : a; } \
  constexpr T max(T a, T b) { return a < b ? b : a; }
MOED_MIN_MAX(int)
MOED_MIN_MAX(unsigned)
MOED_MIN_MAX(long)
MOED_MIN_MAX(unsigned long)
MOED_MIN_MAX(long long)
MOED_MIN_MAX(unsigned long long)
#undef MOED_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

constexpr int __float_as_int(float value) { return std::bit_cast<int>(value); }
constexpr unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
constexpr float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
constexpr float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
constexpr long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
constexpr double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }

constexpr int __popc(unsigned value) { return std::popcount(value); }
constexpr int __popcll(unsigned long long value) { return std::popcount(value); }
constexpr int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
constexpr int __clzll(long long value) {
  return std::countl_zero(static_cast<unsigned long long>(value));
}
constexpr int __ffs(int value) {
  return value == 0 ? 0 : std::countr_zero(static_cast<unsigned>(value)) + 1;
}
constexpr int __ffsll(long long value) {
  return value == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(value)) + 1;
}
constexpr unsigned __brev(unsigned value) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (value >> bit & 1U) << (31 - bit);
  return reversed;
}
constexpr unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
constexpr unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<Wide>(a) * b >> 64);
}

inline float rsqrtf(float value) { return 1.0F / std::sqrt(value); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float value) { return 1.0F / value; }
inline float __fsqrt_rn(float value) { return std::sqrt(value); }
inline float __frsqrt_rn(float value) { return rsqrtf(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float value) { return value > 0.0F ? fminf(value, 1.0F) : 0.0F; }
inline int __float2int_rn(float value) { return static_cast<int>(std::nearbyint(value)); }
inline int __float2int_rz(float value) { return static_cast<int>(value); }
inline int __float2int_rd(float value) { return static_cast<int>(std::floor(value)); }
inline int __float2int_ru(float value) { return static_cast<int>(std::ceil(value)); }

// glibc declares functions of these names.
#define __expf(x) ::expf(x)
#define __exp10f(x) ::exp10f(x)
#define __logf(x) ::logf(x)
#define __log2f(x) ::log2f(x)
#define __log10f(x) ::log10f(x)
#define __powf(x, y) ::powf(x, y)
#define __sinf(x) ::sinf(x)
#define __cosf(x) ::cosf(x)

#define MOED_LOAD(name)    \
  template <typename T>    \
  T name(const T* place) { \
    return *place;         \
  }
MOED_LOAD(__ldg)
MOED_LOAD(__ldcg)
MOED_LOAD(__ldca)
MOED_LOAD(__ldcs)
MOED_LOAD(__ldlu)
MOED_LOAD(__ldcv)
#undef MOED_LOAD
#define MOED_STORE(name)         \
  template <typename T>          \
  void name(T* place, T value) { \
    *place = value;              \
  }
MOED_STORE(__stwb)
MOED_STORE(__stcg)
MOED_STORE(__stcs)
MOED_STORE(__stwt)
#undef MOED_STORE

[[noreturn]] inline void __trap() { std::abort(); }
inline size_t __cvta_generic_to_shared(const void* place) {
  return reinterpret_cast<size_t>(place);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
