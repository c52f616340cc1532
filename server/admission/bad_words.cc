#include "server/admission/bad_words.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace moed {
namespace {

// Stands before the text so that the tokenizer's dummy prefix is not the text's own. No vocabulary
// has pieces with this character, so nothing merges with it.
constexpr absl::string_view kContext = "\x01";

// The ids of `text` after something else.
std::vector<int32_t> EncodeInside(absl::string_view text, const Tokenizer& tokenizer) {
  const std::vector<int32_t> context = tokenizer.Encode(kContext);
  const std::vector<int32_t> ids = tokenizer.Encode(absl::StrCat(kContext, text));
  const auto [end_of_context, begin] =
      std::mismatch(context.begin(), context.end(), ids.begin(), ids.end());
  // One token for both: the text cannot be told apart.
  if (end_of_context != context.end()) return {};
  return std::vector<int32_t>(begin, ids.end());
}

}  // namespace

std::vector<std::vector<int32_t>> EncodeBadWord(absl::string_view text,
                                                const Tokenizer& tokenizer) {
  while (absl::ConsumePrefix(&text, " ")) {
  }
  std::vector<std::vector<int32_t>> words;
  if (text.empty()) return words;
  // At the beginning of the text as well: there the dummy prefix is the space.
  for (std::vector<int32_t> ids :
       {EncodeInside(absl::StrCat(" ", text), tokenizer), EncodeInside(text, tokenizer)}) {
    const bool is_new = std::find(words.begin(), words.end(), ids) == words.end();
    if (!ids.empty() && is_new) words.push_back(std::move(ids));
  }
  return words;
}

}  // namespace moed
