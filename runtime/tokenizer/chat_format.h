// A conversation to the tokens that an instruction-tuned model was trained on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

struct ChatMessage {
  std::string role;     // "system", "user" or "assistant"
  std::string content;  // UTF-8
};

struct RenderedChat {
  std::vector<int32_t> ids;  // what the model reads, <s> included
  std::string text;          // the same for people: "<s> [INST] Hi [/INST] Hello</s>"
};

// Mistral's first instruction format ("v1": Mistral 7B, Mixtral 8x7B). Reference: mistral-common's
// v1 tokenizer and chat templates.
//
//   <s>  [INST] first user text [/INST]  answer </s>  [INST] next user text [/INST]  ...
//
// - Each part (a user turn with its markers, an answer) is encoded on its own, so that no merge
//   crosses a boundary and a dummy prefix starts each; <s> and </s> are put in by id. The markers
//   are plain text in this format. Nothing in a message can become <s> or </s>.
// - All system messages, wherever they stand, are joined with blank lines and put before the first
//   user text, with a blank line between.
// - Consecutive messages of one role (system messages left out) are joined with blank lines.
// - An answer at the end is closed with </s> like any other.
//
// Immutable; any thread.
class ChatFormat {
 public:
  // `tokenizer` must outlive this object. FAILED_PRECONDITION: it has no <s> or no </s>.
  static absl::StatusOr<ChatFormat> MistralV1(const Tokenizer* tokenizer);

  // INVALID_ARGUMENT, naming the message by index ("messages[2].role: ..."): no message that is
  // not a system message, a role other than the three, a conversation that does not start with
  // the user, an empty answer.
  absl::StatusOr<RenderedChat> Render(absl::Span<const ChatMessage> messages) const;

 private:
  explicit ChatFormat(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

  const Tokenizer* tokenizer_;
};

}  // namespace moed
