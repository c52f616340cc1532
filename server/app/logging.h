// The daemon's log: one line per event on stderr.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/app/log_writer.h"

namespace spdlog {
class logger;
}  // namespace spdlog

namespace moed {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning", "error"; INVALID_ARGUMENT otherwise.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view name);

// What an event tells besides its message. Neither key nor text is copied: both must outlive the
// call that logs. Keys are lower_snake_case and not "time", "level" or "message".
class LogField {
 public:
  LogField(absl::string_view key, absl::string_view text) : key_(key), value_(text) {}
  LogField(absl::string_view key, const char* text) : key_(key), value_(absl::string_view(text)) {}
  template <typename T>
  requires std::same_as<T, bool> LogField(absl::string_view key, T value)
      : key_(key), value_(value) {}
  template <typename T>
  requires(std::integral<T> && !std::same_as<T, bool>) LogField(absl::string_view key, T value)
      : key_(key), value_(static_cast<int64_t>(value)) {}
  LogField(absl::string_view key, double value) : key_(key), value_(value) {}

  using Value = std::variant<absl::string_view, int64_t, double, bool>;
  absl::string_view key() const { return key_; }
  const Value& value() const { return value_; }

 private:
  absl::string_view key_;
  Value value_;
};

// Text on a terminal, else one JSON object per line with "time" (UTC), "level", "message" and the
// event's fields. Thread-safe. Nothing here blocks: lines are written by a thread of its own, and
// dropped and counted where stderr takes none.
class Log {
 public:
  // `format` is "auto", "text" or "json"; `level` as ParseLogLevel, info where it is none.
  Log(absl::string_view format, absl::string_view level);
  // The same to another descriptor, which must outlive the log.
  Log(absl::string_view format, absl::string_view level, int fd);
  // Waits for what is queued, at most kFlushPatience.
  ~Log();

  void Debug(absl::string_view message) { Event(LogLevel::kDebug, message, {}); }
  void Info(absl::string_view message) { Event(LogLevel::kInfo, message, {}); }
  void Warning(absl::string_view message) { Event(LogLevel::kWarning, message, {}); }
  void Error(absl::string_view message) { Event(LogLevel::kError, message, {}); }

  // Text: the message, then key=value. Control characters are escaped in both formats.
  void Event(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields);
  void Event(LogLevel level, absl::string_view message, absl::Span<const LogField> fields);

  void SetLevel(LogLevel level);
  LogLevel level() const;

  // Whether stderr is a terminal and lines are text: a live line may be drawn.
  bool interactive() const { return interactive_; }
  // Draws `text` over the live line that is there; empty: takes it away. Only where interactive.
  void ShowLiveLine(absl::string_view text);

  // Waits until all that was logged has been written or dropped, at most `patience`: before the
  // process ends without destroying this object.
  void Flush(std::chrono::milliseconds patience = kFlushPatience);
  // Lines that were not written, as stderr did not take them or not in time.
  int64_t dropped_lines() const;

  static constexpr std::chrono::milliseconds kFlushPatience{1000};

 private:
  bool json_ = false;
  bool interactive_ = false;
  std::shared_ptr<LogWriter> writer_;
  std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace moed
