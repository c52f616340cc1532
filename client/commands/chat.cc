#include <unistd.h>

#include <iostream>
#include <string>

#include "client/commands/commands.h"
#include "client/generate_request.h"
#include "client/output.h"

namespace moed {
namespace {

void AddMessage(const std::string& role, const std::string& content, v1::ChatPrompt* chat) {
  v1::ChatMessage* message = chat->add_messages();
  message->set_role(role);
  message->set_content(content);
}

// Says `text` and adds the answer to the conversation, which after an error is as it was before.
absl::Status Say(const ClientOptions& options, const std::string& text, Connection& connection,
                 v1::ChatPrompt* chat) {
  AddMessage("user", text, chat);
  v1::StreamGenerateRequest request = MakeGenerateRequest(options);
  *request.mutable_chat() = *chat;
  std::string answer;
  const absl::Status status =
      connection.StreamGenerate(request, [&](const v1::StreamGenerateResponse& message) {
        answer += message.text_delta();
        if (options.json) {
          PrintJson(message);
          return true;
        }
        PrintText(message.text_delta());
        if (message.has_finish()) {
          PrintText("\n");
          if (options.stats) PrintStats(message.finish());
        }
        return true;
      });
  if (!status.ok()) {
    if (!options.json && !answer.empty()) PrintText("\n");
    chat->mutable_messages()->RemoveLast();
    return status;
  }
  // A conversation cannot hold an empty answer: the question is then forgotten.
  if (answer.empty()) {
    chat->mutable_messages()->RemoveLast();
  } else {
    AddMessage("assistant", answer, chat);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunChat(const ClientOptions& options, Connection& connection) {
  v1::ChatPrompt chat;
  if (!options.system.empty()) AddMessage("system", options.system, &chat);
  if (!options.message.empty()) return Say(options, options.message, connection, &chat);
  const bool interactive = isatty(STDIN_FILENO) == 1;
  std::string line;
  while (true) {
    if (interactive) PrintText("> ");
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    const absl::Status status = Say(options, line, connection, &chat);
    if (status.ok()) continue;
    // A person may say less, or the same again; a script must notice.
    if (!interactive) return status;
    PrintError(status, options.json);
  }
  if (interactive) PrintText("\n");
  return absl::OkStatus();
}

}  // namespace moed
