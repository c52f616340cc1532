#include "server/state/serving_state.h"

#include <utility>

#include "absl/status/status.h"

namespace moed {

void ServingState::SetProgress(absl::string_view text) {
  MutexLock lock(mutex_);
  if (!closed_) unavailable_ = std::string(text);
}

void ServingState::SetServing(Serving serving) {
  MutexLock lock(mutex_);
  serving_ = std::move(serving);
}

void ServingState::Close(absl::string_view reason) {
  Serving released;  // destroyed after the lock: an engine's end takes time
  MutexLock lock(mutex_);
  closed_ = true;
  unavailable_ = std::string(reason);
  std::swap(serving_, released);
}

absl::StatusOr<Serving> ServingState::Get() const {
  MutexLock lock(mutex_);
  if (serving_.engine == nullptr) return absl::UnavailableError(unavailable_);
  return serving_;
}

}  // namespace moed
