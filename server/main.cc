// moed: serves a Mixture-of-Experts language model.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/app/check_config.h"
#include "server/app/daemon.h"
#include "server/app/daemon_options.h"
#include "server/app/descriptor_limit.h"
#include "server/app/dry_run.h"
#include "server/app/exit_code.h"
#include "server/app/logging.h"

namespace moed {
namespace {

// To stdout, for whoever asked.
int Print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return kExitOk;
  std::fputs("moed: standard output takes nothing\n", stderr);
  return kExitUnavailable;
}

int PrintDryRun(const DaemonOptions& options) {
  const absl::StatusOr<std::string> plan = DryRun(options);
  if (plan.ok()) return Print(*plan);
  std::fputs(absl::StrCat("moed: ", plan.status().message(), "\n").c_str(), stderr);
  return ExitCodeOf(plan.status().code());
}

// After what was found wrong with the settings themselves, all that is wrong with what they name.
int PrintCheck(const ParsedCommandLine& command_line) {
  std::string text = command_line.text;
  int exit_code = command_line.exit_code;
  for (const absl::Status& problem : CheckConfig(command_line.options)) {
    absl::StrAppend(&text, "moed: ", problem.message(), "\n");
    if (exit_code == kExitOk) exit_code = kExitConfig;
  }
  if (exit_code == kExitOk) return Print("The configuration is good.\n");
  std::fputs(text.c_str(), stderr);
  return exit_code;
}

void RaiseLimit(const DaemonOptions& options, Log* log) {
  const absl::StatusOr<DescriptorLimit> limit = RaiseDescriptorLimit();
  if (!limit.ok()) {
    log->Warning(absl::string_view(limit.status().message()));
    return;
  }
  log->Event(LogLevel::kInfo, "file descriptors",
             {{"limit", limit->after}, {"limit_before", limit->before}});
  const std::optional<std::string> warning = DescriptorWarning(*limit, options.max_connections);
  if (warning.has_value()) log->Warning(*warning);
}

int Serve(int argc, char** argv, const DaemonOptions& options) {
  Log log(options.log_format, options.log_level);
  RaiseLimit(options, &log);
  Daemon daemon(options, &log, [argc, argv] { return ParseCommandLine(argc, argv); });
  bool must_exit_now = false;
  const int exit_code = daemon.Run(&must_exit_now);
  if (must_exit_now) {
    log.Flush();
    std::_Exit(exit_code);
  }
  return exit_code;
}

int Main(int argc, char** argv) {
  // A reader of stdout or stderr that goes away ends nothing.
  std::signal(SIGPIPE, SIG_IGN);
  OccupyStandardDescriptors();
  const ParsedCommandLine command_line = ParseCommandLine(argc, argv);
  const DaemonOptions& options = command_line.options;
  if (options.check_config) return PrintCheck(command_line);
  if (!command_line.run) {
    if (command_line.exit_code == kExitOk) return Print(command_line.text);
    std::fputs(command_line.text.c_str(), stderr);
    return command_line.exit_code;
  }
  if (options.dry_run) return PrintDryRun(options);
  return Serve(argc, argv, options);
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) {
  try {
    return moed::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fputs(absl::StrCat("moed: internal error: ", error.what(), "\n").c_str(), stderr);
  }
  std::_Exit(moed::kExitSoftware);
}
