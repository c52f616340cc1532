#include <chrono>
#include <thread>

#include "absl/strings/str_format.h"
#include "client/commands/commands.h"
#include "client/live_view.h"
#include "client/output.h"

namespace moed {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPollInterval{200};

// A daemon that loads or serves is another one, started in the place of the one that was drained.
bool IsDraining(const v1::ListRanksResponse& ranks) {
  return ranks.phase() == v1::DAEMON_PHASE_DRAINING || ranks.phase() == v1::DAEMON_PHASE_FAILED;
}

// Until nothing answers, or what answers does not drain. An error other than that is passed on:
// whether the daemon has gone is then not known.
absl::Status WaitUntilGone(const ClientOptions& options, Connection& connection) {
  const Clock::time_point began = Clock::now();
  const double limit = options.connection.timeout_seconds;
  ProgressLine progress;
  while (true) {
    v1::ListRanksResponse ranks;
    const absl::Status status = connection.ListRanks({}, &ranks);
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    if (absl::IsUnavailable(status) || (status.ok() && !IsDraining(ranks))) return absl::OkStatus();
    if (!status.ok()) return status;
    if (limit > 0 && seconds >= limit) {
      return absl::DeadlineExceededError("the daemon is still draining");
    }
    if (options.json) {
      PrintJson(ranks);
    } else {
      progress.Show(
          absl::StrFormat("draining: %d running, %d waiting", ranks.running(), ranks.waiting()));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace

absl::Status RunDrain(const ClientOptions& options, Connection& connection) {
  v1::DrainRequest request;
  if (options.operate.within_seconds.has_value()) {
    request.set_timeout_seconds(*options.operate.within_seconds);
  }
  v1::DrainResponse response;
  absl::Status status = connection.Drain(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(absl::StrFormat("draining: %d running and %d waiting may finish\n",
                              response.running(), response.waiting()));
  }
  if (!options.operate.wait) return absl::OkStatus();
  status = WaitUntilGone(options, connection);
  if (status.ok() && !options.json) PrintText("the daemon has gone\n");
  return status;
}

}  // namespace moed
