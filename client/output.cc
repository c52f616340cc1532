#include "client/output.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/error_text.h"
#include "client/live_view.h"
#include "google/protobuf/util/json_util.h"

namespace moed {
namespace {

std::string JsonLine(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string line;
  if (!google::protobuf::util::MessageToJsonString(message, &line, options).ok()) return "";
  return line + "\n";
}

}  // namespace

void PrintJson(const google::protobuf::Message& message) { PrintText(JsonLine(message)); }

void PrintText(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void PrintError(const absl::Status& status, bool json) {
  if (json) {
    google::rpc::Status message = ErrorMessage(status);
    std::string line = JsonLine(message);
    if (line.empty()) {  // a detail of a type that this program does not know
      message.clear_details();
      line = JsonLine(message);
    }
    std::fputs(line.c_str(), stderr);
    return;
  }
  absl::FPrintF(stderr, "moedctl: %s\n", FormatError(status));
}

void PrintStats(const v1::GenerationFinish& finish) {
  std::string reason = v1::FinishReason_Name(finish.reason());
  constexpr absl::string_view kPrefix = "FINISH_REASON_";
  if (reason.size() > kPrefix.size()) reason.erase(0, kPrefix.size());
  const v1::Usage& usage = finish.usage();
  std::string text = absl::StrFormat(
      "[%d prompt tokens%s, %d tokens, %s; first token after %.1f ms, then %.2f ms each; "
      "%d experts a token",
      usage.prompt_tokens(),
      usage.cached_tokens() > 0 ? absl::StrCat(" (", usage.cached_tokens(), " cached)") : "",
      usage.completion_tokens(), reason, 1000 * finish.timing().first_token_seconds(),
      1000 * finish.timing().mean_inter_token_seconds(), finish.experts_per_token());
  if (finish.timing().preemptions() > 0) {
    absl::StrAppend(&text, "; preempted ", finish.timing().preemptions(), " times");
  }
  if (finish.dropped_pairs() > 0) {
    absl::StrAppend(&text, "; ", finish.dropped_pairs(), " pairs of token and expert dropped");
  }
  absl::FPrintF(stderr, "%s]\n", text);
}

TextStyle StdoutStyle() {
  const TerminalSize size = StdoutSize();
  const char* no_color = std::getenv("NO_COLOR");
  return {.color = size.rows > 0 && (no_color == nullptr || *no_color == '\0'),
          .columns = size.columns};
}

std::string ReadStandardInput() {
  return std::string(std::istreambuf_iterator<char>(std::cin), {});
}

}  // namespace moed
