// moedctl's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moed {

enum class Command : uint8_t { kGenerate, kChat, kTokenize, kModel, kExperts };

// What a continuation may be asked for; unset: the daemon's defaults.
struct GenerateOptions {
  std::optional<int32_t> max_tokens;
  std::optional<int32_t> min_tokens;
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop_strings;
  std::vector<uint32_t> stop_token_ids;
  std::optional<int32_t> logprobs;
  bool ignore_eos = false;
  std::string request_id;
};

struct ClientOptions {
  Command command = Command::kModel;
  std::string server = "127.0.0.1:9000";
  std::string model;
  double timeout_seconds = 0;  // 0: none
  bool json = false;

  GenerateOptions generate;
  std::string text;                 // generate, tokenize: "-" reads standard input
  std::vector<uint32_t> token_ids;  // generate, tokenize
  bool echo = false;                // generate
  bool stats = false;               // generate, chat
  std::string system;               // chat
  std::string message;              // chat; empty: a conversation over standard input
  bool no_special_tokens = false;   // tokenize
  bool chat = false;                // tokenize: the text is a user's message
};

struct ParsedClientLine {
  bool run = false;
  ClientOptions options;
  int exit_code = 0;
  std::string text;  // help, version or what is wrong
};

ParsedClientLine ParseClientLine(int argc, const char* const* argv);

}  // namespace moed
