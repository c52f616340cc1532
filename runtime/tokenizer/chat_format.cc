#include "runtime/tokenizer/chat_format.h"

#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

constexpr absl::string_view kBlankLine = "\n\n";
// Enough of a wrong role to recognise it; the rest of what a client sent is not repeated to it.
constexpr size_t kMaxShownRoleBytes = 32;

// Consecutive messages of one role.
struct Turn {
  bool is_user;
  size_t first_message;  // index in the request
  std::string text;
};

struct Conversation {
  bool has_system = false;
  std::string system;
  std::vector<Turn> turns;
};

absl::Status MessageError(size_t index, absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("messages[", index, "].", field, ": ", what));
}

void AppendParagraph(absl::string_view paragraph, bool is_first, std::string* text) {
  absl::StrAppend(text, is_first ? absl::string_view() : kBlankLine, paragraph);
}

absl::StatusOr<Conversation> GroupTurns(absl::Span<const ChatMessage> messages) {
  Conversation conversation;
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "system") {
      AppendParagraph(message.content, !conversation.has_system, &conversation.system);
      conversation.has_system = true;
      continue;
    }
    const bool is_user = message.role == "user";
    if (!is_user && message.role != "assistant") {
      const absl::string_view shown = absl::string_view(message.role).substr(0, kMaxShownRoleBytes);
      return MessageError(i, "role",
                          absl::StrCat("expected system, user or assistant, found '",
                                       absl::CHexEscape(shown), "'"));
    }
    std::vector<Turn>& turns = conversation.turns;
    if (turns.empty() && !is_user) {
      return MessageError(i, "role", "expected user (who starts a conversation), found assistant");
    }
    const bool starts_turn = turns.empty() || turns.back().is_user != is_user;
    if (starts_turn) turns.push_back({is_user, i, ""});
    AppendParagraph(message.content, starts_turn, &turns.back().text);
  }
  if (conversation.turns.empty()) {
    return absl::InvalidArgumentError("messages: expected a user message, found none");
  }
  for (const Turn& turn : conversation.turns) {
    if (!turn.is_user && turn.text.empty()) {
      return MessageError(turn.first_message, "content",
                          "expected text from the assistant, found none");
    }
  }
  return conversation;
}

}  // namespace

absl::StatusOr<ChatFormat> ChatFormat::MistralV1(const Tokenizer* tokenizer) {
  if (tokenizer->bos_id() == Tokenizer::kNoToken || tokenizer->eos_id() == Tokenizer::kNoToken) {
    return absl::FailedPreconditionError(
        "chat: the tokenizer has no control pieces for the beginning and end of a sequence");
  }
  return ChatFormat(tokenizer);
}

absl::StatusOr<RenderedChat> ChatFormat::Render(absl::Span<const ChatMessage> messages) const {
  MOED_ASSIGN_OR_RETURN(const Conversation conversation, GroupTurns(messages));
  RenderedChat chat;
  const auto add_control = [&](int32_t id) {
    chat.ids.push_back(id);
    absl::StrAppend(&chat.text, tokenizer_->IdToPiece(id));
  };
  const auto add_text = [&](const std::string& text) {
    const std::vector<int32_t> ids = tokenizer_->Encode(text);
    chat.ids.insert(chat.ids.end(), ids.begin(), ids.end());
    absl::StrAppend(&chat.text, " ", text);  // the dummy prefix of a part
  };

  add_control(tokenizer_->bos_id());
  for (size_t i = 0; i < conversation.turns.size(); ++i) {
    const Turn& turn = conversation.turns[i];
    if (!turn.is_user) {
      add_text(turn.text);
      add_control(tokenizer_->eos_id());
      continue;
    }
    const bool carries_system = i == 0 && !conversation.system.empty();
    add_text(absl::StrCat("[INST] ", carries_system ? conversation.system : "",
                          carries_system ? kBlankLine : absl::string_view(), turn.text,
                          " [/INST]"));
  }
  return chat;
}

}  // namespace moed
