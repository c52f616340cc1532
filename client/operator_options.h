// What operators ask of a daemon on moedctl's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace CLI {  // NOLINT(readability-identifier-naming): the name is the library's
class App;
}

namespace moed {

struct OperatorOptions {
  // experts
  std::optional<double> window_seconds;
  bool tokens = false;
  std::optional<uint32_t> token_limit;
  bool placement = false;
  // experts, ranks
  bool watch = false;
  std::optional<double> interval_seconds;
  uint64_t frames = 0;  // 0: until it is ended
  // drain
  std::optional<double> within_seconds;
  bool wait = false;
  // abort
  std::string request_id;
  // log-level
  std::string log_level;
};

// The commands of operators.
struct OperatorCommands {
  CLI::App* experts;
  CLI::App* ranks;
  CLI::App* drain;
  CLI::App* abort;
  CLI::App* log_level;
};

// Declares them. `options` outlives `app`.
OperatorCommands AddOperatorCommands(CLI::App* app, OperatorOptions& options);

}  // namespace moed
