// The daemon's log: one line per event on stderr.
#pragma once

#include <memory>

#include "absl/strings/string_view.h"

namespace spdlog {
class logger;
}  // namespace spdlog

namespace moed {

// Text on a terminal, else one JSON object per line with "time" (UTC), "level" and "message".
// Thread-safe. A log that cannot be written stops nothing.
class Log {
 public:
  // `format` is "auto", "text" or "json"; `level` "debug", "info", "warning" or "error".
  Log(absl::string_view format, absl::string_view level);
  ~Log();

  void Debug(absl::string_view message);
  void Info(absl::string_view message);
  void Warning(absl::string_view message);
  void Error(absl::string_view message);

  // Whether stderr is a terminal and lines are text: a live line may be drawn.
  bool interactive() const { return interactive_; }

 private:
  bool interactive_ = false;
  std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace moed
