#include "tests/simulation/simulation_counts.h"

#include "absl/strings/str_cat.h"

namespace moed {
namespace {

// In the order of Happening.
constexpr const char* kNames[] = {
    "steps",
    "requests accepted",
    "requests refused",
    "requests that ended well",
    "requests cancelled",
    "requests past their deadline",
    "requests lost to a rank",
    "requests of slow readers",
    "readers gone",
    "readers stalled",
    "rank failures",
    "clock jumps",
    "continuations ended by time limit",
    "continuations ended by stop string",
    "continuations ended by stop token",
    "continuations ended by length",
    "continuations forked",
    "blocks copied for a fork",
    "preemptions",
    "continuations that came back on another rank",
    "prompt tokens from the cache",
    "cached blocks evicted",
    "steps planned ahead",
    "rows overrun",
    "plans made before output was processed",
    "requests refused as the queue was full",
    "admissions before an older request",
};
static_assert(sizeof(kNames) / sizeof(kNames[0]) == static_cast<size_t>(Happening::kNumHappenings));

}  // namespace

void SimulationCounts::Add(const SimulationCounts& other) {
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

std::string SimulationCounts::Text() const {
  std::string text;
  for (size_t i = 0; i < counts_.size(); ++i) {
    absl::StrAppend(&text, "  ", kNames[i], ": ", counts_[i], "\n");
  }
  return text;
}

std::vector<std::string> SimulationCounts::Missing() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] == 0) names.push_back(kNames[i]);
  }
  return names;
}

}  // namespace moed
