// moedctl: talks to a moed daemon.
#include <cstdio>

#include "absl/status/status.h"
#include "client/client_options.h"
#include "client/commands/commands.h"
#include "client/connection.h"
#include "client/exit_code.h"
#include "client/output.h"

namespace moed {
namespace {

absl::Status RunCommand(const ClientOptions& options) {
  Connection connection(options.server, options.timeout_seconds);
  switch (options.command) {
    case Command::kGenerate:
      return RunGenerate(options, connection);
    case Command::kChat:
      return RunChat(options, connection);
    case Command::kTokenize:
      return RunTokenize(options, connection);
    case Command::kModel:
      return RunModel(options, connection);
    case Command::kExperts:
      return RunExperts(options, connection);
  }
  return absl::InternalError("no such command");
}

int Main(int argc, char** argv) {
  const ParsedClientLine line = ParseClientLine(argc, argv);
  if (!line.run) {
    std::fputs(line.text.c_str(), line.exit_code == 0 ? stdout : stderr);
    return line.exit_code;
  }
  const absl::Status status = RunCommand(line.options);
  if (!status.ok()) PrintError(status);
  return ClientExitCode(status.code());
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) { return moed::Main(argc, argv); }
