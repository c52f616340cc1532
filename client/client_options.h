// moedctl's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/connection_options.h"
#include "client/generate_options.h"
#include "client/operator_options.h"

namespace moed {

enum class Command : uint8_t {
  kGenerate,
  kChat,
  kTokenize,
  kModel,
  kExperts,
  kRanks,
  kDrain,
  kAbort,
  kLogLevel,
};

struct ClientOptions {
  Command command = Command::kModel;
  ConnectionOptions connection;
  std::string model;
  bool json = false;

  GenerateOptions generate;
  std::string text;                 // generate, tokenize: "-" reads standard input
  std::vector<uint32_t> token_ids;  // generate, tokenize
  bool stats = false;               // generate, chat
  std::string system;               // chat
  std::string message;              // chat; empty: a conversation over standard input
  bool no_special_tokens = false;   // tokenize
  bool chat = false;                // tokenize: the text is a user's message
  OperatorOptions operate;
};

struct ParsedClientLine {
  bool run = false;
  ClientOptions options;
  int exit_code = 0;
  std::string text;  // help, version or what is wrong
};

ParsedClientLine ParseClientLine(int argc, const char* const* argv);

}  // namespace moed
