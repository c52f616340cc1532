#include "server/app/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/app/log_line.h"

namespace moed {
namespace {

// Some seconds of a daemon that logs every request, when nobody reads.
constexpr size_t kMaxQueuedBytes = size_t{1} << 20;
constexpr char kDropped[] = "log lines were dropped, as stderr did not take them";
constexpr char kClearLine[] = "\r\033[K";

const char* LevelName(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::debug:
      return "debug";
    case spdlog::level::info:
      return "info";
    case spdlog::level::warn:
      return "warning";
    default:
      return "error";
  }
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    default:
      return spdlog::level::err;
  }
}

std::string JsonLine(absl::Time time, absl::string_view level, absl::string_view members) {
  return absl::StrCat("{\"time\":\"",
                      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()),
                      "\",\"level\":\"", level, "\",", members, "}\n");
}

std::string JsonDropNotice(int64_t dropped) {
  const LogField field("dropped_lines", dropped);
  return JsonLine(absl::Now(), "warning", JsonMembers(kDropped, absl::MakeConstSpan(&field, 1)));
}

std::string TextDropNotice(int64_t dropped) {
  return absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%E3S", absl::Now(), absl::LocalTimeZone()),
                      " warning ", dropped, " ", kDropped, "\n");
}

// The payload has the members already.
class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string line =
        JsonLine(absl::FromChrono(message.time), LevelName(message.level),
                 absl::string_view(message.payload.data(), message.payload.size()));
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

class WriterSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  WriterSink(std::shared_ptr<LogWriter> writer, bool colour)
      : writer_(std::move(writer)), colour_(colour) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    std::string line(formatted.data(), formatted.size());
    if (colour_ && message.color_range_end > message.color_range_start) {
      line.insert(message.color_range_end, "\033[m");
      line.insert(message.color_range_start, Colour(message.level));
      line.insert(0, kClearLine);
    }
    writer_->Write(std::move(line));
  }
  void flush_() override {}

  static const char* Colour(spdlog::level::level_enum level) {
    if (level >= spdlog::level::err) return "\033[31m\033[1m";
    if (level == spdlog::level::warn) return "\033[33m\033[1m";
    return level == spdlog::level::info ? "\033[32m" : "\033[36m";
  }

  const std::shared_ptr<LogWriter> writer_;
  const bool colour_;
};

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  return absl::InvalidArgumentError("a log level is debug, info, warning or error");
}

Log::Log(absl::string_view format, absl::string_view level) : Log(format, level, STDERR_FILENO) {}

Log::Log(absl::string_view format, absl::string_view level, int fd) {
  const bool terminal = isatty(fd) == 1;
  json_ = format == "json" || (format == "auto" && !terminal);
  interactive_ = terminal && !json_;
  writer_ =
      std::make_shared<LogWriter>(fd, kMaxQueuedBytes, json_ ? JsonDropNotice : TextDropNotice);
  logger_ =
      std::make_shared<spdlog::logger>("moed", std::make_shared<WriterSink>(writer_, interactive_));
  if (json_) {
    logger_->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger_->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%-7l%$ %v");
  }
  SetLevel(ParseLogLevel(level).value_or(LogLevel::kInfo));
}

Log::~Log() = default;

void Log::Event(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields) {
  Event(level, message, absl::MakeConstSpan(fields.begin(), fields.size()));
}

void Log::Event(LogLevel level, absl::string_view message, absl::Span<const LogField> fields) {
  const spdlog::level::level_enum spdlog_level = SpdlogLevel(level);
  if (!logger_->should_log(spdlog_level)) return;
  const std::string body = json_ ? JsonMembers(message, fields) : TextLine(message, fields);
  logger_->log(spdlog_level, spdlog::string_view_t(body.data(), body.size()));
}

void Log::SetLevel(LogLevel level) { logger_->set_level(SpdlogLevel(level)); }

LogLevel Log::level() const {
  switch (logger_->level()) {
    case spdlog::level::debug:
      return LogLevel::kDebug;
    case spdlog::level::info:
      return LogLevel::kInfo;
    case spdlog::level::warn:
      return LogLevel::kWarning;
    default:
      return LogLevel::kError;
  }
}

void Log::ShowLiveLine(absl::string_view text) {
  if (interactive_) writer_->Write(absl::StrCat(kClearLine, text));
}

void Log::Flush(std::chrono::milliseconds patience) { writer_->Flush(patience); }

int64_t Log::dropped_lines() const { return writer_->dropped_lines(); }

}  // namespace moed
