// What a continuation may be asked for on moedctl's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming): the name is the library's
class App;
}

namespace moed {

// Unset: the daemon's defaults.
struct GenerateOptions {
  // Drawing.
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> typical_p;
  std::optional<uint64_t> seed;
  std::optional<int32_t> n;  // generate only
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::optional<float> repetition_penalty;
  std::vector<std::string> logit_bias;  // "ID=BIAS", checked
  std::vector<uint32_t> allowed_token_ids;
  std::vector<std::string> bad_words;

  // Stopping.
  std::optional<int32_t> max_tokens;
  std::optional<int32_t> min_tokens;
  std::vector<std::string> stop_strings;
  std::vector<uint32_t> stop_token_ids;
  bool include_stop = false;
  bool ignore_eos = false;
  std::optional<int64_t> time_limit_ms;

  // What comes back; text and token ids in JSON.
  bool no_text = false;
  bool show_token_ids = false;
  std::optional<int32_t> logprobs;
  std::optional<int32_t> prompt_logprobs;
  bool echo = false;  // generate only
  bool special_tokens = false;
  bool routed_experts = false;

  // Experts, order and cache.
  std::optional<int32_t> experts_per_token;
  std::optional<int32_t> priority;
  std::optional<int32_t> home_rank;
  bool no_cache = false;
  std::string cache_salt;
  std::string request_id;

  // Whether something is asked for that only JSON can show.
  bool needs_json() const {
    return no_text || show_token_ids || routed_experts || logprobs.has_value() ||
           prompt_logprobs.has_value();
  }
};

// Declares the options that `generate` and `chat` have in common. `options` outlives `app`.
void AddGenerateOptions(CLI::App* app, GenerateOptions& options);
// Those that only `generate` has.
void AddPromptOptions(CLI::App* app, GenerateOptions& options);

// "ID=BIAS" apart; nullopt where it is not that.
struct LogitBiasOption {
  uint32_t token_id = 0;
  float bias = 0;
};
std::optional<LogitBiasOption> ParseLogitBias(const std::string& text);

}  // namespace moed
