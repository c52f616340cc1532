#include "server/app/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace moed {
namespace {

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

class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const nlohmann::ordered_json line = {
        {"time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromChrono(message.time),
                                  absl::UTCTimeZone())},
        {"level", LevelName(message.level)},
        {"message", std::string(message.payload.data(), message.payload.size())}};
    // Bad UTF-8 in a path must not end the daemon.
    const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    out.append(text.data(), text.data() + text.size());
    out.push_back('\n');
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

spdlog::string_view_t View(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace

Log::Log(absl::string_view format, absl::string_view level) {
  const bool terminal = isatty(STDERR_FILENO) == 1;
  const bool json = format == "json" || (format == "auto" && !terminal);
  interactive_ = terminal && !json;
  auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  logger_ = std::make_shared<spdlog::logger>("moed", std::move(sink));
  if (json) {
    logger_->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger_->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%-7l%$ %v");
  }
  logger_->set_level(spdlog::level::from_str(std::string(level)));
  logger_->flush_on(spdlog::level::debug);
}

Log::~Log() = default;

void Log::Debug(absl::string_view message) { logger_->debug(View(message)); }
void Log::Info(absl::string_view message) { logger_->info(View(message)); }
void Log::Warning(absl::string_view message) { logger_->warn(View(message)); }
void Log::Error(absl::string_view message) { logger_->error(View(message)); }

}  // namespace moed
