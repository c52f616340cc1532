// Token ids to text, one id at a time.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/tokenizer/vocabulary.h"

namespace moed {

class Tokenizer;

struct DetokenizeOptions {
  bool skip_special_tokens = true;  // false: control pieces stand in the text as "<s>", "</s>"
};

// Turns a growing sequence of ids into text deltas. Every delta is well-formed UTF-8 of whole code
// points: bytes of an unfinished one wait for the next id. The deltas joined, with Flush() last,
// equal Tokenizer::Decode of all the ids (the rules are sentencepiece's, see there).
//
// What continues a prompt is not the beginning of a text: give the constructor the prompt's ids.
// After a prompt, a first generated "▁Hello" gives " Hello"; after no prompt, or one of control
// pieces only (<s>), it gives "Hello". Bytes of a code point that the prompt leaves unfinished are
// carried over, so that text(prompt) + deltas read like the whole; nothing else of the prompt
// appears in the deltas. To echo a prompt, feed it instead.
//
// Each object belongs to one thread at a time. It holds no more than three pending bytes.
class IncrementalDetokenizer {
 public:
  // `tokenizer` must outlive this object; `prompt_ids` is read only here (its first text and its
  // last bytes, not the whole).
  explicit IncrementalDetokenizer(const Tokenizer& tokenizer, const DetokenizeOptions& options = {},
                                  absl::Span<const int32_t> prompt_ids = {});

  // The text that `id` settles, often empty within a character spelled in bytes. An id outside the
  // vocabulary (an LM head can be padded beyond it) gives U+FFFD.
  std::string Feed(int32_t id);
  // The same, appended to `text`.
  void Feed(int32_t id, std::string* text);

  // Ends the sequence: what is pending becomes U+FFFD, one for each byte. Further ids may follow.
  std::string Flush();

  // Whether bytes wait for the rest of their code point.
  bool HasPending() const { return num_pending_ > 0; }

 private:
  void FeedByte(char byte, std::string* text);
  void FeedPiece(int32_t id, std::string* text);
  // Ends a run of byte pieces: nothing after it can complete what is pending.
  void EndByteRun(std::string* text);
  void ReplaceFirstPendingByte(std::string* text);

  const Vocabulary* vocabulary_;
  DetokenizeOptions options_;
  char pending_[4] = {};
  size_t num_pending_ = 0;
  // Sentencepiece drops one space at the beginning of a text (every leading one where the model
  // removes extra whitespace): true until something has been written or dropped.
  bool at_beginning_ = true;
};

}  // namespace moed
