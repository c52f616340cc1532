// Byte-pair merging of a normalised text.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "runtime/tokenizer/prefix_matcher.h"
#include "runtime/tokenizer/vocabulary.h"

namespace moed {

// What the merging did, for tests that hold its growth with the text's length.
struct BpeWork {
  int64_t num_lookups = 0;  // pairs looked up in the vocabulary
  int64_t num_pushes = 0;   // merges queued
};

// A piece of the text and its id; kNoToken where the vocabulary has no such piece.
struct BpeToken {
  absl::string_view text;
  int32_t id;
};

// The algorithm of sentencepiece's BPE model: the text starts as single characters (user-defined
// pieces stay whole and are never merged), and of all adjacent pairs whose concatenation is a
// piece the one with the highest score is merged first, the leftmost among equals. Pieces marked
// unused are split again into what they were merged from. O(n log n) in characters: a priority
// queue over a linked list, with at most three lookups for each character.
// Immutable; any thread.
class BpeEncoder {
 public:
  // Both must outlive this object.
  BpeEncoder(const Vocabulary* vocabulary, const PrefixMatcher* user_defined)
      : vocabulary_(vocabulary), user_defined_(user_defined) {}

  // `normalized` is well-formed UTF-8, under 2^31 bytes; the result's views point into it and,
  // joined, are all of it.
  std::vector<BpeToken> Encode(absl::string_view normalized, BpeWork* work = nullptr) const;

 private:
  const Vocabulary* vocabulary_;
  const PrefixMatcher* user_defined_;
};

}  // namespace moed
