// What administrators can make the daemon do. Implemented by the program.
#pragma once

#include <chrono>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moed {

// Thread-safe; returns at once.
class AdminControl {
 public:
  virtual ~AdminControl() = default;

  // As the first SIGTERM; the process ends when it is through. `timeout` instead of
  // --drain-timeout. A second call changes nothing.
  virtual void BeginDrain(std::optional<std::chrono::milliseconds> timeout) = 0;

  // "debug", "info", "warning" or "error"; INVALID_ARGUMENT otherwise. Until the next SIGHUP, which
  // goes back to the configured one.
  virtual absl::Status SetLogLevel(absl::string_view level) = 0;
};

}  // namespace moed
