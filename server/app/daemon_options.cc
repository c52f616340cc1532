#include "server/app/daemon_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <arpa/inet.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/app/exit_code.h"
#include "server/app/nearest_name.h"
#include "server/app/option_conflicts.h"
#include "server/app/option_groups.h"
#include "server/app/option_table.h"
#include "server/app/print_config.h"
#include "server/app/settings.h"
#include "server/app/toml_file.h"

namespace moed {
namespace {

constexpr char kConfigVariable[] = "MOED_CONFIG";
// Of a file with thousands of wrong keys.
constexpr size_t kMaxProblems = 50;

constexpr char kFooter[] =
    "Every option after the first few is also an environment variable and a key of the --config\n"
    "file, which is TOML: --kv-blocks is MOED_KV_BLOCKS and kv-blocks. A flag beats the\n"
    "environment, the environment the file. Sizes take units: 512MiB, 4GiB.\n"
    "\n"
    "Examples:\n"
    "  moed --model models/demo --ranks 8\n"
    "  moed --model /data/mixtral --ranks 8 --dry-run\n"
    "  moed --model config.json --load-format dummy --listen 0.0.0.0:9000\n"
    "  moed --config /etc/moed/moed.toml --check-config\n"
    "\n"
    "Exit codes: 0 stopped by a signal or drained, 64 usage, 69 too little memory or a port that\n"
    "is taken, 70 internal, 75 a rank failed (restart me), 78 bad checkpoint or configuration.\n"
    "SIGTERM and SIGINT drain; a second one stops at once. SIGHUP reads keys, certificates and "
    "the\n"
    "log level again.";

// The command line, as texts. Values are read and checked elsewhere, the same for all sources.
class Flags {
 public:
  explicit Flags(const OptionTable& table)
      : app_("moed serves a Mixture-of-Experts language model.", "moed") {
    app_.set_help_flag("--help,-h", "Print this text");
    app_.set_version_flag("--version", "moed " MOED_VERSION, "Print the version");
    config_ = app_.add_option("--config", CLI::callback_t(),
                              "Settings as TOML; also " + std::string(kConfigVariable))
                  ->type_name("FILE");
    for (const OptionTable::ActionFlag& action : table.actions()) {
      app_.add_flag("--" + action.name, *action.value, action.help);
    }
    for (const Option& option : table.options()) options_.push_back(Declare(option));
    app_.footer(kFooter);
    app_.get_formatter()->column_width(32);
  }

  CLI::App& app() { return app_; }
  std::string config() const {
    return config_->count() > 0 ? config_->results().back() : EnvironmentValue(kConfigVariable);
  }
  bool config_is_flag() const { return config_->count() > 0; }
  std::vector<FlagValues> values() const {
    std::vector<FlagValues> values;
    for (const CLI::Option* option : options_) values.push_back(option->results());
    return values;
  }

 private:
  CLI::Option* Declare(const Option& option) {
    if (option.kind == ValueKind::kBoolean) {
      return app_.add_flag(option.flag(), option.help)->group(option.group);
    }
    CLI::Option* declared = app_.add_option(option.flag(), CLI::callback_t(), option.help)
                                ->group(option.group)
                                ->type_name(option.type)
                                ->default_str(option.default_text);
    if (option.kind == ValueKind::kList) {
      declared->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }
    return declared;
  }

  CLI::App app_;
  CLI::Option* config_ = nullptr;
  std::vector<CLI::Option*> options_;  // [table.options()]
};

// "; did you mean --kv-blocks?" for the first flag that there is none of.
std::string Suggestion(int argc, const char* const* argv, const OptionTable& table) {
  std::vector<std::string> names = {"config", "help", "version"};
  for (const Option& option : table.options()) names.push_back(option.name);
  for (const OptionTable::ActionFlag& action : table.actions()) names.push_back(action.name);
  for (int i = 1; i < argc; ++i) {
    absl::string_view name(argv[i]);
    if (!absl::ConsumePrefix(&name, "--")) continue;
    name = name.substr(0, name.find('='));
    if (std::find(names.begin(), names.end(), std::string(name)) != names.end()) continue;
    const std::string nearest = NearestName(name, names);
    return nearest.empty() ? "" : absl::StrCat("; did you mean --", nearest, "?");
  }
  return "";
}

std::vector<SettingProblem> CheckTogether(const OptionTable& table, const DaemonOptions& options,
                                          bool print_config) {
  std::vector<SettingProblem> problems;
  if (options.model.empty() && !print_config) {
    problems.push_back({ValueSource::kFlag, "--model is required"});
  }
  const int actions =
      (options.dry_run ? 1 : 0) + (options.check_config ? 1 : 0) + (print_config ? 1 : 0);
  if (actions > 1) {
    problems.push_back(
        {ValueSource::kFlag, "--dry-run, --check-config and --print-config do not go together"});
  }
  for (OptionConflict& conflict : FindConflicts(table, options)) {
    problems.push_back({table.Find(conflict.option)->source, std::move(conflict.text)});
  }
  return problems;
}

// Flags are usage; what a deployment has in its environment or file is configuration.
int ExitCodeOfProblems(const std::vector<SettingProblem>& problems) {
  const bool any_flag =
      std::any_of(problems.begin(), problems.end(), [](const SettingProblem& problem) {
        return problem.source == ValueSource::kFlag || problem.source == ValueSource::kDefault;
      });
  return any_flag ? kExitUsage : kExitConfig;
}

std::string ProblemText(const std::vector<SettingProblem>& problems) {
  std::string text;
  for (size_t i = 0; i < std::min(problems.size(), kMaxProblems); ++i) {
    absl::StrAppend(&text, "moed: ", problems[i].text, "\n");
  }
  if (problems.size() > kMaxProblems) {
    absl::StrAppend(&text, "moed: and ", problems.size() - kMaxProblems, " more\n");
  }
  return absl::StrCat(text, "moed --help lists all options\n");
}

std::vector<TomlEntry> ReadConfig(const Flags& flags, std::vector<SettingProblem>* problems) {
  const std::string path = flags.config();
  if (path.empty()) {
    if (flags.config_is_flag()) {
      problems->push_back({ValueSource::kFlag, "--config: must not be empty"});
    }
    return {};
  }
  absl::StatusOr<std::vector<TomlEntry>> config = ReadTomlFile(path);
  if (config.ok()) return *std::move(config);
  const absl::string_view why = config.status().message();
  problems->push_back(
      {ValueSource::kFile,
       absl::StrCat(flags.config_is_flag() ? "--config" : kConfigVariable, " ", path, ": ", why)});
  return {};
}

}  // namespace

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  DaemonOptions& options = parsed.options;
  bool print_config = false;
  OptionTable table;
  table.Action("dry-run", &options.dry_run,
               "Say what loading the model would take, read no weights, and stop");
  table.Action("check-config", &options.check_config,
               "Check settings, files and the model's configuration, read no weights, and stop");
  table.Action("print-config", &print_config,
               "Print the settings as a --config file that tells where each came from, and stop");
  AddEngineOptions(table, options);
  AddServiceOptions(table, options);
  Flags flags(table);
  std::vector<SettingProblem> problems;
  try {
    flags.app().parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.text = flags.app().help();
    return parsed;
  } catch (const CLI::CallForVersion&) {
    parsed.text = flags.app().version() + "\n";
    return parsed;
  } catch (const CLI::Error& error) {
    problems.push_back(
        {ValueSource::kFlag, absl::StrCat(error.what(), Suggestion(argc, argv, table))});
    parsed.text = ProblemText(problems);
    parsed.exit_code = kExitUsage;
    return parsed;
  }
  const std::vector<TomlEntry> config = ReadConfig(flags, &problems);
  std::vector<SettingProblem> wrong = ApplySettings(flags.values(), flags.config(), config, table);
  std::move(wrong.begin(), wrong.end(), std::back_inserter(problems));
  wrong = CheckTogether(table, options, print_config);
  std::move(wrong.begin(), wrong.end(), std::back_inserter(problems));
  if (!problems.empty()) {
    parsed.text = ProblemText(problems);
    parsed.exit_code = ExitCodeOfProblems(problems);
    return parsed;
  }
  // A prompt's continuations run side by side on one rank.
  options.limits.n = std::min(options.limits.n, options.max_sequences);
  if (print_config) {
    parsed.text = PrintConfig(table, flags.config());
    return parsed;
  }
  parsed.run = true;
  return parsed;
}

bool AllLoopback(const std::vector<std::string>& listen) {
  return std::all_of(listen.begin(), listen.end(), [](const std::string& address) {
    const std::string host = address.substr(0, address.rfind(':'));
    if (host == "localhost" || host == "[::1]" || host == "::1") return true;
    // Not a name that only begins like one: it may stand for any address.
    in_addr ipv4;
    return inet_pton(AF_INET, host.c_str(), &ipv4) == 1 && ntohl(ipv4.s_addr) >> 24 == 127;
  });
}

}  // namespace moed
