#include "client/expert_tokens_text.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace moed {
namespace {

// A space as people see it, and nothing that a terminal would obey.
std::string Shown(const v1::ExpertToken& token) {
  if (token.piece().empty()) return absl::StrCat("#", token.token_id());
  return absl::StrCat("\"", absl::Utf8SafeCEscape(token.piece()), "\"");
}

}  // namespace

std::string FormatExpertTokens(const v1::GetExpertTokensResponse& tokens) {
  if (tokens.layers().empty()) return "no layers\n";
  std::string text;
  for (const v1::LayerExpertTokens& layer : tokens.layers()) {
    absl::StrAppendFormat(
        &text,
        "layer %d: the same id goes to the same expert with probability %.3f (at random %.3f);\n"
        "  to its favourite %.3f (at random %.3f); of %d tokens with %d ids\n",
        layer.layer(), layer.agreement(), tokens.random_agreement(), layer.favourite_share(),
        layer.random_favourite_share(), layer.repeated_tokens(), layer.repeated_token_ids());
    for (const v1::ExpertTokens& expert : layer.experts()) {
      absl::StrAppendFormat(&text, "  e%-3d", expert.expert());
      for (const v1::ExpertToken& token : expert.tokens()) {
        absl::StrAppendFormat(&text, "  %s %d (%.0f %%)", Shown(token), token.count(),
                              100 * token.share());
      }
      absl::StrAppend(&text, "\n");
    }
  }
  absl::StrAppendFormat(&text, "%d tokens counted since the start\n", tokens.counted_tokens());
  return text;
}

}  // namespace moed
