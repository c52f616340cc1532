#include "client/client_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/exit_code.h"

namespace moed {
namespace {

constexpr char kFooter[] =
    "Examples:\n"
    "  moedctl generate 'Once upon a time' --max-tokens 100 --seed 7\n"
    "  moedctl chat                     talk line by line; Ctrl-D ends\n"
    "  moedctl tokenize 'Hello world'\n"
    "  moedctl experts --watch          how the load is spread over the experts, live\n"
    "  moedctl ranks --watch            what each rank holds, and what its time goes to\n"
    "  moedctl drain --wait             end the daemon when what runs has finished\n"
    "  moedctl generate --help          every option of a command\n"
    "\n"
    "A daemon with keys asks for one: in MOEDCTL_KEY, or in a file named by --key-file. "
    "MOED_SERVER\n"
    "is where the daemon is, without --server.\n"
    "\n"
    "Exit codes: 0 done, 64 usage, 65 the daemon refuses the request, 69 it is not there or not\n"
    "ready, 75 it is busy or too slow (try again), 77 it does not let you, 70 anything else.";

// Takes one argument at a time, so that what follows is left for the prompt.
template <typename Value>
CLI::Option* AddRepeated(CLI::App* app, const char* name, std::vector<Value>& values,
                         const char* text) {
  return app->add_option(name, values, text)->allow_extra_args(false);
}

// Of `generate`: what the options do together.
constexpr char kGenerateFooter[] =
    "Examples:\n"
    "  moedctl generate 'Once upon a time' --seed 7 --temperature 0.8 --top-p 0.95\n"
    "  moedctl generate 'The king' -n 4 --max-tokens 20 --stats\n"
    "  moedctl generate 'A dog' --temperature 0 --repetition-penalty 1.2 --bad-word cat\n"
    "  moedctl generate 'Yes or no?' --allowed-tokens 395,510 --max-tokens 1 --logprobs 5\n"
    "  moedctl generate 'Once' --experts-per-token 1    with one expert for each token\n"
    "\n"
    "What is not given is the daemon's default. docs/sampling.md has the formulas; without --json\n"
    "--stats tells what the request cost.";

// Also on the subcommand, where people write it.
void AddCommonOptions(CLI::App* app, ClientOptions& o) {
  AddConnectionOptions(app, o.connection);
  app->add_option("--model", o.model, "Name of the model; default: the one that is served");
  app->add_flag("--json", o.json, "One JSON object per line, errors on standard error");
}

}  // namespace

ParsedClientLine ParseClientLine(int argc, const char* const* argv) {
  ParsedClientLine parsed;
  ClientOptions& o = parsed.options;
  // Not CLI11's variables: a subcommand's option would take its own over a flag before it.
  const char* server = std::getenv("MOED_SERVER");
  if (server != nullptr && *server != '\0') o.connection.server = server;
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
  AddPromptOptions(generate, o.generate);
  generate->add_flag("--stats", o.stats, "Say on stderr how long it took and why it ended");
  AddGenerateOptions(generate, o.generate);
  generate->footer(kGenerateFooter);

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
  const OperatorCommands operate = AddOperatorCommands(&app, o.operate);
  const std::pair<CLI::App*, Command> commands[] = {
      {generate, Command::kGenerate},         {chat, Command::kChat},
      {tokenize, Command::kTokenize},         {model, Command::kModel},
      {operate.experts, Command::kExperts},   {operate.ranks, Command::kRanks},
      {operate.drain, Command::kDrain},       {operate.abort, Command::kAbort},
      {operate.log_level, Command::kLogLevel}};
  for (const auto& [command, _] : commands) {
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
  for (const auto& [command, value] : commands) {
    if (command->parsed()) o.command = value;
  }
  const bool needs_text = generate->parsed() || tokenize->parsed();
  if (needs_text && o.text.empty() == o.token_ids.empty()) {
    parsed.text = "moedctl: give either a text or token ids\n";
    parsed.exit_code = kExitUsage;
    return parsed;
  }
  if (o.generate.needs_json()) o.json = true;
  parsed.run = true;
  return parsed;
}

}  // namespace moed
