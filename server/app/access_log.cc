#include "server/app/access_log.h"

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace moed {

void AccessLog::OnEnd(const RequestRecord& record) {
  if (log_->level() > LogLevel::kInfo) return;
  // The status's text stays out: it may quote what a client sent.
  const std::string code = absl::StatusCodeToString(record.status.code());
  std::vector<LogField> fields;
  fields.emplace_back("method", record.method);
  const auto add_text = [&](absl::string_view key, absl::string_view text) {
    if (!text.empty()) fields.emplace_back(key, text);
  };
  const auto add_seconds = [&](absl::string_view key, double seconds) {
    if (seconds > 0) fields.emplace_back(key, seconds);
  };
  add_text("request_id", record.request_id);
  add_text("client", record.client);
  fields.emplace_back("code", code);
  add_text("reason", record.reason);
  if (record.admitted) {
    add_text("finish_reason", record.finish_reason);
    fields.emplace_back("choices", record.num_choices);
    fields.emplace_back("prompt_tokens", record.prompt_tokens);
    fields.emplace_back("cached_tokens", record.cached_tokens);
    fields.emplace_back("completion_tokens", record.completion_tokens);
    fields.emplace_back("preemptions", record.preemptions);
    add_seconds("queue_seconds", record.queue_seconds);
    add_seconds("first_token_seconds", record.first_token_seconds);
  }
  fields.emplace_back("total_seconds", record.total_seconds);
  if (record.client_cancelled) fields.emplace_back("client_cancelled", true);
  if (record.slow_reader) fields.emplace_back("slow_reader", true);
  log_->Event(LogLevel::kInfo, "request", absl::MakeConstSpan(fields));
}

}  // namespace moed
