// Tells how far loading is: a live line on a terminal, log lines otherwise, and clients that ask.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/worker_group.h"
#include "server/app/logging.h"
#include "server/state/serving_state.h"

namespace moed {

// Thread-safe: the ranks report at the same time. A short load writes no line.
class LoadReporter {
 public:
  LoadReporter(Log* log, ServingState* state)
      : log_(log), state_(state), last_shown_(std::chrono::steady_clock::now()) {}
  ~LoadReporter() { EndLiveLine(); }

  void Report(const RankProgress& progress);
  // Takes the live line off the terminal.
  void EndLiveLine();

 private:
  struct RankState {
    size_t phase = 0;  // index into phases_
    double fraction = 0;
  };

  // "rank 3: expert weights 45 %".
  std::string Describe(int rank) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int SlowestRank() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Log* const log_;
  ServingState* const state_;
  Mutex mutex_;
  std::vector<std::string> phases_ ABSL_GUARDED_BY(mutex_);  // in the order they were first seen
  std::map<int, RankState> ranks_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point last_shown_ ABSL_GUARDED_BY(mutex_);
  bool live_line_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace moed
