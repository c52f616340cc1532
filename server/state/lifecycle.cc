#include "server/state/lifecycle.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace moed {
namespace {

// The phases of a rank's start (RankProgress) and how much of the whole each is taken for: what is
// read from files is nearly all of it.
struct LoadPhase {
  absl::string_view name;
  double weight;
};
constexpr std::array<LoadPhase, 4> kLoadPhases = {
    {{"replicated weights", 0.2}, {"expert weights", 0.75}, {"kv cache", 0.05}, {"ready", 0}}};

double WholeLoad(const RankLoad& rank) {
  double done = 0;
  for (const LoadPhase& phase : kLoadPhases) {
    if (phase.name == rank.phase) return done + phase.weight * std::clamp(rank.fraction, 0.0, 1.0);
    done += phase.weight;
  }
  return 0;  // a phase of another kind of rank
}

}  // namespace

const char* LifecyclePhaseName(LifecyclePhase phase) {
  switch (phase) {
    case LifecyclePhase::kLoading:
      return "loading";
    case LifecyclePhase::kReady:
      return "ready";
    case LifecyclePhase::kDraining:
      return "draining";
    case LifecyclePhase::kFailed:
      return "failed";
    case LifecyclePhase::kStopped:
      return "stopped";
  }
  return "";
}

void Lifecycle::ReportLoad(const RankProgress& progress) {
  MutexLock lock(mutex_);
  if (state_.phase != LifecyclePhase::kLoading || progress.rank < 0) return;
  const auto rank = static_cast<size_t>(progress.rank);
  if (state_.ranks.size() <= rank) state_.ranks.resize(rank + 1);
  state_.ranks[rank] = {progress.phase, progress.fraction};
  double slowest = 1;
  for (const RankLoad& load : state_.ranks) slowest = std::min(slowest, WholeLoad(load));
  // A rank that reports for the first time takes nothing back.
  state_.load_fraction = std::max(state_.load_fraction, slowest);
  ++state_.version;
}

void Lifecycle::Enter(LifecyclePhase phase) {
  MutexLock lock(mutex_);
  if (phase <= state_.phase) return;
  state_.phase = phase;
  if (phase == LifecyclePhase::kReady) state_.load_fraction = 1;
  ++state_.version;
}

LifecycleSnapshot Lifecycle::Snapshot() const {
  MutexLock lock(mutex_);
  return state_;
}

LifecyclePhase Lifecycle::phase() const {
  MutexLock lock(mutex_);
  return state_.phase;
}

}  // namespace moed
