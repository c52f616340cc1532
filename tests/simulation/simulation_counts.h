// What simulated schedules went through: a simulator that never comes to the edge finds nothing
// there.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace moed {

enum class Happening : uint8_t {
  kStep,         // committed
  kAccepted,     // requests
  kRefused,      // requests, by Submit
  kEndedOk,      // requests
  kCancel,       // requests that ended CANCELLED
  kDeadline,     // requests that ended DEADLINE_EXCEEDED
  kLostToRank,   // requests that ended UNAVAILABLE
  kSlowReader,   // requests that ended RESOURCE_EXHAUSTED, as their outbox overflowed
  kReaderGone,   // events
  kReaderStall,  // events
  kRankFailure,  // events
  kClockJump,    // events
  kTimeLimit,    // continuations
  kStopString,   // continuations
  kStopToken,    // continuations
  kLength,       // continuations
  kFork,         // continuations beyond the first
  kBlockCopy,    // of a block that a fork shared
  kPreemption,   // continuations
  kMovedHome,    // continuations that came back on another rank
  kCacheHit,     // tokens
  kEviction,     // published blocks
  kPlanAhead,    // steps planned while another was not committed
  kOverrun,      // rows of continuations that had ended normally
  kLateOutput,   // plans made while output waited
  kQueueFull,    // requests refused for it
  kPriority,     // admissions before an older request, by priority
  kNumHappenings,
};

class SimulationCounts {
 public:
  int64_t& operator[](Happening happening) { return counts_[static_cast<size_t>(happening)]; }
  int64_t operator[](Happening happening) const { return counts_[static_cast<size_t>(happening)]; }
  void Add(const SimulationCounts& other);
  // A line each.
  std::string Text() const;
  // The names of those that never happened.
  std::vector<std::string> Missing() const;

 private:
  std::array<int64_t, static_cast<size_t>(Happening::kNumHappenings)> counts_ = {};
};

}  // namespace moed
