#include "client/generate_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace moed {
namespace {

// Takes one argument at a time, so that what follows is left for the prompt.
template <typename Value>
CLI::Option* AddRepeated(CLI::App* app, const char* name, std::vector<Value>& values,
                         const char* text) {
  return app->add_option(name, values, text)->allow_extra_args(false);
}

std::string CheckLogitBias(const std::string& text) {
  return ParseLogitBias(text).has_value() ? "" : "must be ID=BIAS, got " + text;
}

void AddDrawing(CLI::App* app, GenerateOptions& o) {
  const std::string group = "How tokens are drawn, in this order";
  AddRepeated(app, "--logit-bias", o.logit_bias,
              "ID=BIAS adds to the logit of a token, [-100, 100]; may be given again")
      ->check(CLI::Validator(CheckLogitBias, "", "logit bias"))
      ->type_name("ID=BIAS")
      ->group(group);
  app->add_option("--repetition-penalty", o.repetition_penalty,
                  "Above 1 makes tokens of prompt and continuation less likely, (0, 10]")
      ->group(group);
  app->add_option("--frequency-penalty", o.frequency_penalty,
                  "Off a token's logit as often as the continuation has it, [-2, 2]")
      ->group(group);
  app->add_option("--presence-penalty", o.presence_penalty,
                  "Off the logit of tokens that the continuation has, [-2, 2]")
      ->group(group);
  AddRepeated(app, "--allowed-tokens", o.allowed_token_ids,
              "Draw only these token ids, 1,2,3; may be given again")
      ->delimiter(',')
      ->group(group);
  AddRepeated(app, "--bad-word", o.bad_words, "Text that is never drawn; may be given again")
      ->group(group);
  app->add_option("--temperature", o.temperature,
                  "Below 1 prefers likely tokens; 0 takes the most likely one")
      ->group(group);
  app->add_option("--top-k", o.top_k, "Draw from the k most likely tokens; 0: all")->group(group);
  app->add_option("--top-p", o.top_p, "Draw from the most likely tokens with this sum, (0, 1]")
      ->group(group);
  app->add_option("--min-p", o.min_p,
                  "Draw from tokens at least this likely compared with the best, [0, 1]")
      ->group(group);
  app->add_option("--typical-p", o.typical_p,
                  "Draw from the tokens nearest to the expected surprise with this sum, (0, 1]")
      ->group(group);
  app->add_option("--seed", o.seed, "The same seed and request draw the same; else a random one")
      ->group(group);
}

void AddStopping(CLI::App* app, GenerateOptions& o) {
  const std::string group = "When it ends";
  app->add_option("--max-tokens", o.max_tokens, "Tokens at most")->group(group);
  app->add_option("--min-tokens", o.min_tokens, "Tokens before anything below may end it")
      ->group(group);
  AddRepeated(app, "--stop", o.stop_strings, "Text that ends it; may be given again")->group(group);
  AddRepeated(app, "--stop-token", o.stop_token_ids, "Token id that ends it; may be given again")
      ->group(group);
  app->add_flag("--include-stop", o.include_stop, "Keep the stop text or token in the text")
      ->group(group);
  app->add_flag("--ignore-eos", o.ignore_eos, "Go on after the end-of-sequence token")
      ->group(group);
  app->add_option("--time-limit-ms", o.time_limit_ms,
                  "End normally after so many milliseconds, with what there is by then")
      ->group(group);
}

void AddResponse(CLI::App* app, GenerateOptions& o) {
  const std::string group = "What comes back";
  app->add_flag("--special-tokens", o.special_tokens, "Write special tokens by name")->group(group);
  app->add_option("--logprobs", o.logprobs,
                  "Log probabilities with so many alternatives, [0, 20]; implies --json")
      ->group(group);
  app->add_option("--prompt-logprobs", o.prompt_logprobs,
                  "The same for the prompt's tokens; implies --json")
      ->group(group);
  app->add_flag("--show-token-ids", o.show_token_ids, "Token ids as well; implies --json")
      ->group(group);
  app->add_flag("--no-text", o.no_text, "No text; implies --json")->group(group);
  app->add_flag("--routed-experts", o.routed_experts,
                "Which experts each token went to, where the daemon allows it; implies --json")
      ->group(group);
}

void AddRunning(CLI::App* app, GenerateOptions& o) {
  const std::string group = "Where and how it runs";
  app->add_option("--experts-per-token", o.experts_per_token,
                  "Experts that each token goes to; default: the model's")
      ->group(group);
  app->add_option("--priority", o.priority, "Higher runs earlier, [-100, 100]")->group(group);
  app->add_option("--home-rank", o.home_rank, "The rank that computes the attention")->group(group);
  app->add_flag("--no-cache", o.no_cache, "Neither use nor fill the cache of prompts")
      ->group(group);
  app->add_option("--cache-salt", o.cache_salt,
                  "Share cached prompts only with requests of the same salt")
      ->group(group);
  app->add_option("--request-id", o.request_id,
                  "Names the request to the daemon; one that is being served cannot be named again")
      ->group(group);
}

}  // namespace

void AddGenerateOptions(CLI::App* app, GenerateOptions& options) {
  AddDrawing(app, options);
  AddStopping(app, options);
  AddResponse(app, options);
  AddRunning(app, options);
}

void AddPromptOptions(CLI::App* app, GenerateOptions& options) {
  app->add_option("-n,--continuations", options.n,
                  "Continuations of the prompt, [1, 16]; each is printed when it is complete");
  app->add_flag("--echo", options.echo, "The prompt first");
}

std::optional<LogitBiasOption> ParseLogitBias(const std::string& text) {
  const size_t equals = text.find('=');
  LogitBiasOption result;
  if (equals == std::string::npos ||
      !absl::SimpleAtoi(absl::string_view(text).substr(0, equals), &result.token_id) ||
      !absl::SimpleAtof(absl::string_view(text).substr(equals + 1), &result.bias)) {
    return std::nullopt;
  }
  return result;
}

}  // namespace moed
