// Arithmetic on sizes that come from outside: checkpoints, configs, requests.
#pragma once

#include <cstdint>
#include <optional>

namespace moed {

// a * b, or nullopt where the product does not fit.
constexpr std::optional<int64_t> CheckedMul(int64_t a, int64_t b) {
  int64_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

// a + b, or nullopt where the sum does not fit.
constexpr std::optional<int64_t> CheckedAdd(int64_t a, int64_t b) {
  int64_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

}  // namespace moed
