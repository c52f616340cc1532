// Compares what two runs gave, bit for bit.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// "" when equal to the bit, else the first difference. Token has token_id, logprob and
// a list of the most likely ones.
inline std::string TokenDifference(int32_t expected_id, int32_t id) {
  return expected_id == id ? "" : absl::StrCat("token ", id, " for ", expected_id);
}

inline std::string LogprobDifference(float expected, float actual) {
  const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };
  if (bits(expected) == bits(actual)) return "";
  return absl::StrCat("logprob ", absl::Hex(bits(actual)), " (", actual, ") for ",
                      absl::Hex(bits(expected)), " (", expected, ")");
}

using TopLogprobs = std::vector<std::pair<int32_t, float>>;

inline std::string TopDifference(const TopLogprobs& expected, const TopLogprobs& actual) {
  if (expected.size() != actual.size()) {
    return absl::StrCat(actual.size(), " alternatives for ", expected.size());
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    std::string difference = TokenDifference(expected[i].first, actual[i].first);
    if (difference.empty()) difference = LogprobDifference(expected[i].second, actual[i].second);
    if (!difference.empty()) return absl::StrCat("alternative ", i, ": ", difference);
  }
  return "";
}

inline std::string Difference(const SampledToken& expected, const SampledToken& actual) {
  std::string difference = TokenDifference(expected.token_id, actual.token_id);
  if (difference.empty()) difference = LogprobDifference(expected.logprob, actual.logprob);
  if (difference.empty()) difference = TopDifference(expected.top_logprobs, actual.top_logprobs);
  return difference;
}

}  // namespace moed
