#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands/commands.h"
#include "client/generate_request.h"
#include "client/output.h"

namespace moed {
namespace {

// Prints as it comes; of several continuations, which come mixed, each when it is complete.
class ContinuationPrinter {
 public:
  ContinuationPrinter(int num_continuations, bool stats)
      : texts_(static_cast<size_t>(num_continuations)), stats_(stats) {}

  bool Print(const v1::StreamGenerateResponse& message) {
    if (message.index() >= texts_.size()) return true;
    const bool alone = texts_.size() == 1;
    std::string& text = texts_[message.index()];
    // A model without a tokenizer answers with ids.
    const std::string ids = absl::StrJoin(message.token_ids(), " ");
    const std::string piece =
        absl::StrCat(message.text_delta(), !ids.empty() && !text.empty() ? " " : "", ids);
    absl::StrAppend(&text, piece);
    if (alone) PrintText(piece);
    open_ = open_ || (alone && !piece.empty());
    if (!message.has_finish()) return true;
    PrintText(alone ? "\n" : absl::StrCat("[", message.index(), "] ", text, "\n"));
    open_ = false;
    if (stats_) PrintStats(message.finish());
    return true;
  }
  // Whether a line has been begun that has no end.
  bool open() const { return open_; }

 private:
  std::vector<std::string> texts_;  // [n]
  const bool stats_;
  bool open_ = false;
};

}  // namespace

absl::Status RunGenerate(const ClientOptions& options, Connection& connection) {
  v1::StreamGenerateRequest request = MakeGenerateRequest(options);
  if (options.token_ids.empty()) {
    request.set_text(options.text == "-" ? ReadStandardInput() : options.text);
  } else {
    request.mutable_token_ids()->mutable_ids()->Assign(options.token_ids.begin(),
                                                       options.token_ids.end());
  }
  ContinuationPrinter printer(options.generate.n.value_or(1), options.stats);
  absl::Status status =
      connection.StreamGenerate(request, [&](const v1::StreamGenerateResponse& message) {
        if (!options.json) return printer.Print(message);
        PrintJson(message);
        return true;
      });
  if (!status.ok() && printer.open()) PrintText("\n");
  return status;
}

}  // namespace moed
