#include "client/output.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>

#include "absl/strings/str_format.h"
#include "google/protobuf/util/json_util.h"

namespace moed {

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string line;
  if (google::protobuf::util::MessageToJsonString(message, &line, options).ok()) {
    PrintText(line + "\n");
  }
}

void PrintText(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void PrintError(const absl::Status& status) {
  absl::FPrintF(stderr, "moedctl: %s: %s\n", absl::StatusCodeToString(status.code()),
                status.message());
}

void PrintStats(const v1::GenerationFinish& finish) {
  std::string reason = v1::FinishReason_Name(finish.reason());
  constexpr absl::string_view kPrefix = "FINISH_REASON_";
  if (reason.size() > kPrefix.size()) reason.erase(0, kPrefix.size());
  absl::FPrintF(stderr,
                "[%d prompt tokens, %d tokens, %s; first token after %.1f ms, then %.2f ms "
                "each]\n",
                finish.usage().prompt_tokens(), finish.usage().completion_tokens(), reason,
                1000 * finish.timing().first_token_seconds(),
                1000 * finish.timing().mean_inter_token_seconds());
}

bool WantsColor() {
  const char* no_color = std::getenv("NO_COLOR");
  return isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0');
}

std::string ReadStandardInput() {
  return std::string(std::istreambuf_iterator<char>(std::cin), {});
}

}  // namespace moed
