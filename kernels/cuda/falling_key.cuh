// Logits as keys that order tokens by falling logit, ties by rising id.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"

namespace moed::cuda {

// Keys rise as logits fall. Tokens that no draw may take stand behind -infinity, so that the lowest
// (key, id) is the token that SamplingRow names where nothing is left, too.
inline constexpr uint32_t kMinusInfinityKey = 0xff800000U;
inline constexpr uint32_t kSuppressedKey = 0xfffffffeU;
inline constexpr uint32_t kNotAllowedKey = 0xffffffffU;

// A NaN logit counts as -infinity, +infinity as the largest float.
__device__ __forceinline__ float Tame(float logit) {
  constexpr float kLargest = 3.402823466e38F;
  return isnan(logit) ? -INFINITY : fminf(logit, kLargest);
}

// Of a tamed logit; -0 has the key of +0.
__device__ __forceinline__ uint32_t FallingKey(float logit) {
  const uint32_t bits = __float_as_uint(logit + 0.0F);
  return (bits & 0x80000000U) != 0 ? bits : bits ^ 0x7fffffffU;
}

// Of a key up to kMinusInfinityKey.
__device__ __forceinline__ float LogitOf(uint32_t key) {
  return __uint_as_float((key & 0x80000000U) != 0 ? key : key ^ 0x7fffffffU);
}

// A token's place in the falling order: no two are equal.
__device__ __forceinline__ uint64_t PlaceOf(uint32_t key, int64_t id) {
  return (static_cast<uint64_t>(key) << 32) | static_cast<uint32_t>(id);
}
__device__ __forceinline__ uint32_t KeyOf(uint64_t place) {
  return static_cast<uint32_t>(place >> 32);
}
__device__ __forceinline__ int32_t IdOf(uint64_t place) { return static_cast<int32_t>(place); }

// How far below the largest a token lies, in [0, 2^64): finer than a double's rounding, and linear,
// so that equal parts of it hold tokens of like weight.
__device__ __forceinline__ uint64_t LinearCode(double distance) {
  constexpr double kRange = 64;
  constexpr double kScale = 288230376151711744.0;  // 2^58
  return distance < kRange ? static_cast<uint64_t>(distance * kScale) : ~uint64_t{0};
}

}  // namespace moed::cuda
