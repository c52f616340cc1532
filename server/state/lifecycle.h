// How far the daemon is, from its start to its end, for probes, pages and whoever watches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/worker_group.h"
#include "runtime/schedule/request.h"

namespace moed {

enum class LifecyclePhase : uint8_t {
  kLoading,
  kReady,
  kDraining,  // from the first SIGTERM, or Drain
  kFailed,    // a rank has failed; the process ends soon
  kStopped,
};

const char* LifecyclePhaseName(LifecyclePhase phase);  // "loading", ...

// How far a rank has loaded.
struct RankLoad {
  std::string phase;    // RankProgress::phase
  double fraction = 0;  // [0, 1] of the phase
};

struct LifecycleSnapshot {
  LifecyclePhase phase = LifecyclePhase::kLoading;
  uint64_t version = 0;         // grows with every change
  std::vector<RankLoad> ranks;  // [num_ranks] of those that have reported; empty before
  double load_fraction = 0;     // [0, 1] of the whole load: its slowest rank; 1 once ready
};

// Thread-safe.
class Lifecycle {
 public:
  void ReportLoad(const RankProgress& progress);
  // Phases only go forwards; an earlier one is ignored.
  void Enter(LifecyclePhase phase);

  LifecycleSnapshot Snapshot() const;
  LifecyclePhase phase() const;

 private:
  mutable Mutex mutex_;
  LifecycleSnapshot state_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
