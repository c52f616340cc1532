#include <algorithm>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands/commands.h"
#include "client/output.h"

namespace moed {
namespace {

absl::Status Decode(const ClientOptions& options, Connection& connection) {
  v1::DetokenizeRequest request;
  request.set_model(options.model);
  request.mutable_token_ids()->Assign(options.token_ids.begin(), options.token_ids.end());
  request.set_skip_special_tokens(options.no_special_tokens);
  v1::DetokenizeResponse response;
  const absl::Status status = connection.Detokenize(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(response.text() + "\n");
  }
  return absl::OkStatus();
}

absl::Status RenderChat(const ClientOptions& options, const std::string& text,
                        Connection& connection) {
  v1::RenderChatRequest request;
  request.set_model(options.model);
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(text);
  v1::RenderChatResponse response;
  const absl::Status status = connection.RenderChat(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(absl::StrCat(response.text(), "\n", absl::StrJoin(response.token_ids(), " "), "\n"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunTokenize(const ClientOptions& options, Connection& connection) {
  if (!options.token_ids.empty()) return Decode(options, connection);
  const std::string text = options.text == "-" ? ReadStandardInput() : options.text;
  if (options.chat) return RenderChat(options, text, connection);
  v1::TokenizeRequest request;
  request.set_model(options.model);
  request.set_text(text);
  request.set_add_special_tokens(!options.no_special_tokens);
  request.set_include_offsets(true);
  v1::TokenizeResponse response;
  const absl::Status status = connection.Tokenize(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
    return absl::OkStatus();
  }
  std::string table;
  for (int i = 0; i < std::min(response.token_ids_size(), response.offsets_size()); ++i) {
    const v1::TokenOffset& offset = response.offsets(i);
    // The daemon's numbers, which this program cannot rely on.
    const size_t end = std::min<size_t>(offset.end(), text.size());
    const size_t begin = std::min<size_t>(offset.begin(), end);
    const std::string bytes = text.substr(begin, end - begin);
    absl::StrAppendFormat(&table, "%8d  [%d, %d)  \"%s\"\n", response.token_ids(i), offset.begin(),
                          offset.end(), absl::Utf8SafeCEscape(bytes));
  }
  PrintText(table);
  return absl::OkStatus();
}

}  // namespace moed
