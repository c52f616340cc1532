// Philox4x32-10, the counter-based random generator of Salmon, Moraes, Dror and Shaw, "Parallel
// random numbers: as easy as 1, 2, 3" (SC 2011), section 3.3 and table 2.
#pragma once

#include <array>
#include <cstdint>

namespace moed {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

// Ten rounds: four independent words that depend on counter and key alone.
constexpr PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;  // golden ratio
  constexpr uint32_t kWeyl1 = 0xBB67AE85;  // sqrt(3) - 1
  for (int round = 0; round < 10; ++round) {
    if (round > 0) {
      key[0] += kWeyl0;
      key[1] += kWeyl1;
    }
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
  }
  return counter;
}

// The uniform number in [0, 1), a multiple of 2^-53, that draws one token: key `seed`, counter
// (choice_index, low and high word of position, 0), words 0 and 1 of the result.
constexpr double UniformForToken(uint64_t seed, uint32_t choice_index, int64_t position) {
  const auto bits = static_cast<uint64_t>(position);
  const PhiloxCounter words =
      Philox4x32({choice_index, static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32), 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t joined = (static_cast<uint64_t>(words[0]) << 32) | words[1];
  return static_cast<double>(joined >> 11) * 0x1p-53;
}

}  // namespace moed
