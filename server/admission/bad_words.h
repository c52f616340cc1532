// Texts that must not be drawn, as the token ids that spell them.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

// The ids of `text` at the beginning of a word and, where they differ, inside one; spaces before it
// do not count. None is empty. Nothing where the text has nothing but spaces.
std::vector<std::vector<int32_t>> EncodeBadWord(absl::string_view text, const Tokenizer& tokenizer);

}  // namespace moed
