// The text as the merges see it: spaces as U+2581, a dummy prefix, malformed bytes as U+FFFD.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "runtime/tokenizer/prefix_matcher.h"
#include "runtime/tokenizer/sentencepiece_model.h"

namespace moed {

// U+2581, what stands for a space in pieces.
inline constexpr absl::string_view kSpaceSymbol = "\xE2\x96\x81";

// Bytes [begin, end) of a text.
struct TextSpan {
  uint32_t begin = 0;
  uint32_t end = 0;
  friend bool operator==(const TextSpan&, const TextSpan&) = default;
};

struct NormalizedText {
  std::string text;  // well-formed UTF-8
  // For each byte of `text`, and one more for its end: the byte of the original it came from.
  // Ascending. Empty when not asked for.
  std::vector<uint32_t> origins;
};

// The identity normaliser of sentencepiece, with its whitespace rules. User-defined pieces pass
// unchanged but for their spaces. Immutable; any thread.
class Normalizer {
 public:
  // `user_defined` must outlive this object.
  Normalizer(const SentencePieceModel& model, const PrefixMatcher* user_defined);

  // `text` may be malformed UTF-8; each byte that starts no code point counts as U+FFFD.
  NormalizedText Normalize(absl::string_view text, bool with_origins) const;

 private:
  // What one step reads: `num_bytes` of the input, which stand as `output` (no longer than what
  // the input or a constant holds).
  struct Chunk {
    absl::string_view output;
    size_t num_bytes;
  };
  Chunk NextChunk(absl::string_view rest) const;

  const PrefixMatcher* user_defined_;
  bool add_dummy_prefix_;
  bool remove_extra_whitespaces_;
};

}  // namespace moed
