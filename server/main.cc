// moed: serves a Mixture-of-Experts language model.
#include <cstdio>
#include <cstdlib>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/app/daemon.h"
#include "server/app/daemon_options.h"
#include "server/app/dry_run.h"
#include "server/app/exit_code.h"
#include "server/app/logging.h"

namespace moed {
namespace {

int PrintDryRun(const DaemonOptions& options, Log* log) {
  const absl::StatusOr<std::string> plan = DryRun(options);
  if (!plan.ok()) {
    log->Error(absl::string_view(plan.status().message()));
    return ExitCodeOf(plan.status().code());
  }
  std::fputs(plan->c_str(), stdout);
  return kExitOk;
}

int Main(int argc, char** argv) {
  const ParsedCommandLine command_line = ParseCommandLine(argc, argv);
  if (!command_line.run) {
    std::fputs(command_line.text.c_str(), command_line.exit_code == 0 ? stdout : stderr);
    return command_line.exit_code;
  }
  const DaemonOptions& options = command_line.options;
  Log log(options.log_format, options.log_level);
  if (options.dry_run) return PrintDryRun(options, &log);
  Daemon daemon(options, &log);
  bool must_exit_now = false;
  const int exit_code = daemon.Run(&must_exit_now);
  if (must_exit_now) {
    std::fflush(nullptr);
    std::_Exit(exit_code);
  }
  return exit_code;
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) { return moed::Main(argc, argv); }
