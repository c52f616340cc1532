// Random numbers that are the same on every platform.
#pragma once

#include <cstdint>
#include <vector>

namespace moed {

// splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
class SeededRandom {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  // [low, high]; the ranges are small, so that the modulo's bias does not matter.
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Next() % static_cast<uint64_t>(high - low + 1));
  }
  int32_t Int(int32_t low, int32_t high) { return static_cast<int32_t>(Between(low, high)); }
  bool OneIn(int64_t count) { return Between(1, count) == 1; }
  template <typename T>
  const T& Pick(const std::vector<T>& values) {
    return values[static_cast<size_t>(Between(0, static_cast<int64_t>(values.size()) - 1))];
  }

 private:
  uint64_t state_;
};

}  // namespace moed
