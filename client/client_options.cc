#include "client/client_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"

namespace moed {
namespace {

constexpr char kFooter[] =
    "Examples:\n"
    "  moedctl generate 'Once upon a time' --max-tokens 100 --seed 7\n"
    "  moedctl chat                     talk line by line; Ctrl-D ends\n"
    "  moedctl tokenize 'Hello world'\n"
    "  moedctl experts                  how the load is spread over the experts\n"
    "\n"
    "Exit codes: 0 done, 64 usage, 65 the daemon refuses the request, 69 it is not there or not\n"
    "ready, 75 it is busy or too slow (try again), 77 it does not let you, 70 anything else.";

// Takes one argument at a time, so that what follows is left for the prompt.
template <typename Value>
CLI::Option* AddRepeated(CLI::App* app, const char* name, std::vector<Value>& values,
                         const char* text) {
  return app->add_option(name, values, text)->allow_extra_args(false);
}

void AddGenerateOptions(CLI::App* app, GenerateOptions& o) {
  const std::string group = "Continuation";
  app->add_option("--max-tokens", o.max_tokens, "Tokens at most")->group(group);
  app->add_option("--min-tokens", o.min_tokens, "Tokens at least")->group(group);
  app->add_option("--temperature", o.temperature, "0 takes the most likely token")->group(group);
  app->add_option("--top-k", o.top_k, "Draw from the k most likely tokens")->group(group);
  app->add_option("--top-p", o.top_p, "Draw from the most likely tokens with this sum")
      ->group(group);
  app->add_option("--min-p", o.min_p, "Draw from tokens this likely compared with the best")
      ->group(group);
  app->add_option("--seed", o.seed, "The same seed draws the same")->group(group);
  AddRepeated(app, "--stop", o.stop_strings, "Text that ends it; may be given again")->group(group);
  AddRepeated(app, "--stop-token", o.stop_token_ids, "Token id that ends it; may be given again")
      ->group(group);
  app->add_option("--logprobs", o.logprobs,
                  "Log probabilities with so many alternatives; implies "
                  "--json")
      ->group(group);
  app->add_flag("--ignore-eos", o.ignore_eos, "Go on after the end-of-sequence token")
      ->group(group);
  app->add_option("--request-id", o.request_id,
                  "Names the request to the daemon; one that is being served cannot be named again")
      ->group(group);
}

// Also on the subcommand, where people write it.
void AddCommonOptions(CLI::App* app, ClientOptions& o) {
  app->add_option("--server", o.server, "HOST:PORT of the daemon, else MOED_SERVER")
      ->capture_default_str();
  app->add_option("--model", o.model, "Name of the model; default: the one that is served");
  app->add_option("--timeout", o.timeout_seconds, "Seconds that the call may take")
      ->check(CLI::PositiveNumber);
  app->add_flag("--json", o.json, "One JSON object per line");
}

}  // namespace

ParsedClientLine ParseClientLine(int argc, const char* const* argv) {
  ParsedClientLine parsed;
  ClientOptions& o = parsed.options;
  // Not CLI11's variables: a subcommand's option would take its own over a flag before it.
  const char* server = std::getenv("MOED_SERVER");
  if (server != nullptr && *server != '\0') o.server = server;
  CLI::App app("moedctl talks to a moed daemon.", "moedctl");
  app.set_help_flag("--help,-h", "Print this text");
  app.set_version_flag("--version", "moedctl " MOED_VERSION, "Print the version");
  app.require_subcommand(1);
  app.footer(kFooter);
  AddCommonOptions(&app, o);

  CLI::App* generate = app.add_subcommand("generate", "Continue a text, streaming");
  generate->add_option("prompt", o.text, "The text; - reads it from standard input");
  AddRepeated(generate, "--token-ids", o.token_ids, "The prompt as token ids, 1,2,3")
      ->delimiter(',');
  generate->add_flag("--echo", o.echo, "Print the prompt first");
  generate->add_flag("--stats", o.stats, "Say on stderr how long it took and why it ended");
  AddGenerateOptions(generate, o.generate);

  CLI::App* chat = app.add_subcommand("chat", "Talk to an instruction-tuned model");
  chat->add_option("message", o.message, "One message; without it, each line of standard input");
  chat->add_option("--system", o.system, "What the model is told first");
  chat->add_flag("--stats", o.stats, "Say on stderr how long it took and why it ended");
  AddGenerateOptions(chat, o.generate);

  CLI::App* tokenize = app.add_subcommand("tokenize", "Text to token ids, or back");
  tokenize->add_option("text", o.text, "The text; - reads it from standard input");
  AddRepeated(tokenize, "--decode", o.token_ids, "Token ids to turn into text, 1,2,3")
      ->delimiter(',');
  tokenize->add_flag("--no-special-tokens", o.no_special_tokens,
                     "Without the beginning-of-sequence token; with --decode: leave them out");
  tokenize->add_flag("--chat", o.chat, "The text as a user's message in the model's chat format");

  CLI::App* model = app.add_subcommand("model", "What is served, with its limits");
  CLI::App* experts =
      app.add_subcommand("experts", "Tokens that each expert of each layer received");
  for (CLI::App* command : {generate, chat, tokenize, model, experts}) {
    command->set_help_flag("--help,-h", "Print this text");
    AddCommonOptions(command, o);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.text = app.help();
    return parsed;
  } catch (const CLI::CallForVersion&) {
    parsed.text = app.version() + "\n";
    return parsed;
  } catch (const CLI::Error& error) {
    parsed.text = absl::StrCat("moedctl: ", error.what(), "\nmoedctl --help lists all options\n");
    parsed.exit_code = kExitUsage;
    return parsed;
  }
  if (generate->parsed()) o.command = Command::kGenerate;
  if (chat->parsed()) o.command = Command::kChat;
  if (tokenize->parsed()) o.command = Command::kTokenize;
  if (experts->parsed()) o.command = Command::kExperts;
  const bool needs_text = generate->parsed() || tokenize->parsed();
  if (needs_text && o.text.empty() == o.token_ids.empty()) {
    parsed.text = "moedctl: give either a text or token ids\n";
    parsed.exit_code = kExitUsage;
    return parsed;
  }
  if (o.generate.logprobs.has_value()) o.json = true;
  parsed.run = true;
  return parsed;
}

}  // namespace moed
