// What can happen to the daemon while its main thread waits.
#pragma once

#include <chrono>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/mutex.h"
#include "runtime/schedule/request.h"
#include "server/state/serving_state.h"

namespace moed {

// Thread-safe. Events are kept until the main thread looks at them.
class DaemonEvents {
 public:
  void PostSignal();
  // An administrator asks for a drain, with this timeout where there is one. As a first signal, but
  // a signal that follows (a supervisor's, which does not know) is not the second.
  void PostDrain(std::optional<std::chrono::milliseconds> timeout);
  void PostStarted(absl::StatusOr<Serving> started);
  void PostFault(const absl::Status& fault);
  // Engine and server have ended.
  void PostStopped();

  // Waits until the model has started (or not), or a signal or a drain has come.
  void WaitForStartOrSignal();
  // Waits until a signal or a drain has come or the ranks have failed.
  void WaitForSignalOrFault();
  // Waits until there is more than one signal, the ranks have failed, or `deadline`. False: the
  // deadline passed.
  bool WaitForHurry(TimePoint deadline);
  // Waits until the start has ended. False: `deadline` or a second signal came first.
  bool WaitForStart(TimePoint deadline);
  // Waits until engine and server have ended. False: they have not, `after_signal` after the second
  // signal or `after_fault` after the ranks failed, whichever is sooner.
  bool WaitForStopped(std::chrono::milliseconds after_signal,
                      std::chrono::milliseconds after_fault);

  int signals() const;
  std::optional<std::chrono::milliseconds> drain_timeout() const;
  bool started() const;
  absl::Status fault() const;
  // Once, after started().
  absl::StatusOr<Serving> TakeStarted();

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  int signals_ ABSL_GUARDED_BY(mutex_) = 0;
  bool drain_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<std::chrono::milliseconds> drain_timeout_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::StatusOr<Serving>> started_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status fault_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
