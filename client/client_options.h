// moedctl's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/generate_options.h"

namespace moed {

enum class Command : uint8_t { kGenerate, kChat, kTokenize, kModel, kExperts };

struct ClientOptions {
  Command command = Command::kModel;
  std::string server = "127.0.0.1:9000";
  std::string model;
  double timeout_seconds = 0;  // 0: none
  bool json = false;

  GenerateOptions generate;
  std::string text;                      // generate, tokenize: "-" reads standard input
  std::vector<uint32_t> token_ids;       // generate, tokenize
  bool stats = false;                    // generate, chat
  std::string system;                    // chat
  std::string message;                   // chat; empty: a conversation over standard input
  bool no_special_tokens = false;        // tokenize
  bool chat = false;                     // tokenize: the text is a user's message
  std::optional<double> window_seconds;  // experts
  bool tokens = false;                   // experts
  std::optional<uint32_t> token_limit;   // experts
};

struct ParsedClientLine {
  bool run = false;
  ClientOptions options;
  int exit_code = 0;
  std::string text;  // help, version or what is wrong
};

ParsedClientLine ParseClientLine(int argc, const char* const* argv);

}  // namespace moed
