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
  const Encoding encoding = tokenizer.EncodeWithOffsets(absl::StrCat(kContext, text));
  std::vector<int32_t> ids;
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    const TextSpan& span = encoding.spans[i];
    if (span.end <= kContext.size()) continue;
    // One token for both: the text cannot be told apart.
    if (span.begin < kContext.size()) return {};
    ids.push_back(encoding.ids[i]);
  }
  return ids;
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
