// moedctl: talks to a moed daemon.
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client_options.h"
#include "client/commands/commands.h"
#include "client/connection.h"
#include "client/connection_options.h"
#include "client/exit_code.h"
#include "client/output.h"

namespace moed {
namespace {

absl::Status RunCommand(const ClientOptions& options, const ConnectionCredentials& credentials) {
  Connection connection(options.connection, credentials);
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
    case Command::kRanks:
      return RunRanks(options, connection);
    case Command::kDrain:
      return RunDrain(options, connection);
    case Command::kAbort:
      return RunAbort(options, connection);
    case Command::kLogLevel:
      return RunLogLevel(options, connection);
  }
  return absl::InternalError("no such command");
}

int Main(int argc, char** argv) {
  const ParsedClientLine line = ParseClientLine(argc, argv);
  if (!line.run) {
    std::fputs(line.text.c_str(), line.exit_code == 0 ? stdout : stderr);
    return line.exit_code;
  }
  const absl::StatusOr<ConnectionCredentials> credentials =
      LoadCredentials(line.options.connection);
  if (!credentials.ok()) {
    std::fprintf(stderr, "moedctl: %s\n", std::string(credentials.status().message()).c_str());
    return kExitUsage;
  }
  const absl::Status status = RunCommand(line.options, *credentials);
  if (!status.ok()) PrintError(status, line.options.json);
  return ClientExitCode(status.code());
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) { return moed::Main(argc, argv); }
