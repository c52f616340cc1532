// Storage types bfloat16 and float16 with conversion to and from float.
#pragma once

#include <bit>
#include <cstdint>

namespace moed {

// The upper half of a float: 8 exponent bits, 7 fraction bits.
struct BFloat16 {
  uint16_t bits = 0;
};

// IEEE 754 binary16.
struct Float16 {
  uint16_t bits = 0;
};

constexpr float ToFloat(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}
constexpr float ToFloat(float value) { return value; }

// Exact for every value, subnormals, infinities and NaN included.
float ToFloat(Float16 value);

// Rounds to nearest, ties to even; a NaN stays a quiet NaN.
constexpr BFloat16 ToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x0040u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// Stores a float in the element type T (float or BFloat16).
template <typename T>
constexpr T FromFloat(float value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return ToBFloat16(value);
  }
}

}  // namespace moed
