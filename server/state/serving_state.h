// Whether this daemon can answer, and with what.
#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/engine.h"
#include "server/state/served_model.h"

namespace moed {

// What answers requests once the weights are loaded.
struct Serving {
  std::shared_ptr<const ServedModel> model;
  std::shared_ptr<Engine> engine;
};

// Thread-safe. Loading, then serving, then closed.
class ServingState {
 public:
  // What clients are told while loading: "loading: expert weights 45 %". Nothing once closed.
  void SetProgress(absl::string_view text);
  void SetServing(Serving serving);
  // Forgets the model and the engine; from now on Get() is UNAVAILABLE with `reason`.
  void Close(absl::string_view reason);

  // UNAVAILABLE, with the progress, while there is nothing to answer with.
  absl::StatusOr<Serving> Get() const;

 private:
  mutable Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::string unavailable_ ABSL_GUARDED_BY(mutex_) = "loading";
  Serving serving_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
