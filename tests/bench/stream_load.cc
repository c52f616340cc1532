// Streams from a daemon as many clients would, and says how fast they came. Run by hand, or by
// front_end_bench.py:
//   stream_load --server 127.0.0.1:9000 --streams 1000 --tokens 500 [--daemon-pid PID]
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/bench/stream_clients.h"

namespace moed {
namespace {

double OwnCpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// User and system time of a process; 0 where there is none.
double CpuSecondsOf(int pid) {
  if (pid == 0) return 0;
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');  // the name may have spaces
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double Percentile(std::vector<float>& values, double fraction) {
  if (values.empty()) return 0;
  const auto index = static_cast<size_t>(fraction * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(index), values.end());
  return values[index];
}

nlohmann::json Percentiles(std::vector<float>& values) {
  return {{"p50", Percentile(values, 0.5)},
          {"p90", Percentile(values, 0.9)},
          {"p99", Percentile(values, 0.99)},
          {"max", Percentile(values, 1)}};
}

int Main(int argc, char** argv) {
  CLI::App app("Streams from a daemon and measures how fast they come; prints JSON.");
  StreamClientsOptions options;
  int daemon_pid = 0;
  app.add_option("--server", options.server, "HOST:PORT")->required();
  app.add_option("--streams", options.streams, "At a time")->check(CLI::PositiveNumber);
  app.add_option("--connections", options.connections, "That the streams share")
      ->check(CLI::PositiveNumber);
  app.add_option("--prompt-tokens", options.prompt_tokens, "Of each")->check(CLI::PositiveNumber);
  app.add_option("--tokens", options.tokens, "Of each stream")->check(CLI::PositiveNumber);
  app.add_flag("--text,!--no-text", options.text, "Ask for text; the default");
  app.add_flag("--token-ids", options.token_ids, "Ask for token ids");
  app.add_option("--duration", options.duration_seconds,
                 "Seconds in which streams that have ended begin again; 0: each runs once");
  app.add_option("--stall", options.stall_seconds,
                 "Never read; cancel a stream after so many seconds and begin it again");
  app.add_option("--daemon-pid", daemon_pid, "Whose CPU time is told too");
  CLI11_PARSE(app, argc, argv);

  StreamClients clients(options);
  const double own_before = OwnCpuSeconds();
  const double daemon_before = CpuSecondsOf(daemon_pid);
  StreamClientsResult result = clients.Run();
  const double daemon_cpu = CpuSecondsOf(daemon_pid) - daemon_before;
  const double own_cpu = OwnCpuSeconds() - own_before;
  const nlohmann::json report = {
      {"streams", options.streams},
      {"seconds", result.seconds},
      {"ended", result.ended},
      {"failed", result.failed},
      {"first_error", result.first_error},
      {"tokens", result.tokens},
      {"messages", result.messages},
      {"bytes", result.bytes},
      {"tokens_per_second", static_cast<double>(result.tokens) / result.seconds},
      {"messages_per_second", static_cast<double>(result.messages) / result.seconds},
      {"first_message_seconds", Percentiles(result.first_message_seconds)},
      {"between_messages_seconds", Percentiles(result.between_seconds)},
      {"client_cpu_seconds", own_cpu},
      {"daemon_cpu_seconds", daemon_cpu}};
  std::printf("%s\n", report.dump(2).c_str());
  return result.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) { return moed::Main(argc, argv); }
