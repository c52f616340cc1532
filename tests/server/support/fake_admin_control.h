// Remembers what administrators asked for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "server/state/admin_control.h"

namespace moed {

// Thread-safe. Knows the level "debug" only.
class FakeAdminControl : public AdminControl {
 public:
  void BeginDrain(std::optional<std::chrono::milliseconds> timeout) override {
    MutexLock lock(mutex_);
    drains_.push_back(timeout);
  }
  absl::Status SetLogLevel(absl::string_view level) override {
    if (level != "debug") return absl::InvalidArgumentError("level must be debug");
    MutexLock lock(mutex_);
    level_ = std::string(level);
    return absl::OkStatus();
  }

  std::vector<std::optional<std::chrono::milliseconds>> drains() const {
    MutexLock lock(mutex_);
    return drains_;
  }
  std::string level() const {
    MutexLock lock(mutex_);
    return level_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<std::optional<std::chrono::milliseconds>> drains_ ABSL_GUARDED_BY(mutex_);
  std::string level_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
