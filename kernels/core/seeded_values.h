// Numbers that stand in for trained weights: a function of a key and a place, the same bits on
// every machine and device. Plain, for nvcc too.
#pragma once

#include <cstdint>

namespace moed {

inline constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15ULL;
// The initializer_range of the Hugging Face models.
inline constexpr double kSeededDeviation = 0.02;

// SplitMix64's output function (Steele, Lea and Flood 2014): a bijection that scatters counters.
constexpr uint64_t Scatter(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// The number at `place` of the tensor with this key: a sum of four uniforms, nearly normal, with
// mean 0 and standard deviation kSeededDeviation.
constexpr float SeededElement(uint64_t key, int64_t place) {
  // Deviation of the sum of four independent uniform integers in [0, 65535]:
  // sqrt(4 * (2^32 - 1) / 12).
  constexpr double kSumDeviation = 37837.22709;
  const uint64_t bits = Scatter(key + kGoldenGamma * (static_cast<uint64_t>(place) + 1));
  const auto sum = static_cast<int32_t>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                                        (bits >> 32 & 0xffff) + (bits >> 48)) -
                   2 * 65535;
  return static_cast<float>(sum) * static_cast<float>(kSeededDeviation / kSumDeviation);
}

}  // namespace moed
