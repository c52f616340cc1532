#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands/commands.h"
#include "client/generate_request.h"
#include "client/output.h"

namespace moed {

absl::Status RunGenerate(const ClientOptions& options, Connection& connection) {
  v1::StreamGenerateRequest request = MakeGenerateRequest(options);
  if (options.token_ids.empty()) {
    request.set_text(options.text == "-" ? ReadStandardInput() : options.text);
    if (options.echo && !options.json) PrintText(request.text());
  } else {
    request.mutable_token_ids()->mutable_ids()->Assign(options.token_ids.begin(),
                                                       options.token_ids.end());
  }
  bool wrote = false;
  const absl::Status status =
      connection.StreamGenerate(request, [&](const v1::StreamGenerateResponse& message) {
        if (options.json) {
          PrintJson(message);
          return true;
        }
        // A model without a tokenizer answers with ids.
        const std::string ids = absl::StrJoin(message.token_ids(), " ");
        PrintText(absl::StrCat(message.text_delta(), wrote && !ids.empty() ? " " : "", ids));
        wrote = true;
        if (message.has_finish()) {
          PrintText("\n");
          if (options.stats) PrintStats(message.finish());
        }
        return true;
      });
  if (!status.ok() && wrote) PrintText("\n");
  return status;
}

}  // namespace moed
