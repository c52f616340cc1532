// Tells how far loading is: a live line on a terminal, log lines otherwise, and clients that ask.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/worker_group.h"
#include "server/app/logging.h"
#include "server/state/serving_state.h"

namespace moed {

// Thread-safe: the ranks report at the same time.
class LoadReporter {
 public:
  LoadReporter(Log* log, ServingState* state) : log_(log), state_(state) {}
  ~LoadReporter() { EndLiveLine(); }

  void Report(const RankProgress& progress);
  // Takes the live line off the terminal.
  void EndLiveLine();

 private:
  // Of one rank.
  struct Phase {
    std::chrono::steady_clock::time_point last_shown;
    bool done_shown = false;
  };

  Log* const log_;
  ServingState* const state_;
  Mutex mutex_;
  std::map<std::string, Phase> phases_ ABSL_GUARDED_BY(mutex_);  // by rank and name
  bool live_line_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace moed
