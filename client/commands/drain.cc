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
constexpr double kSecondsToBegin = 10;

bool IsDraining(const v1::ListRanksResponse& ranks) {
  return ranks.phase() == v1::DAEMON_PHASE_DRAINING || ranks.phase() == v1::DAEMON_PHASE_FAILED;
}

// Until nothing answers, or what answers does not drain. Another error is passed on: whether the
// daemon has gone is then not known. A call that the daemon drops as it ends is CANCELLED.
absl::Status WaitUntilGone(const ClientOptions& options, Connection& connection) {
  const Clock::time_point began = Clock::now();
  const double limit = options.connection.timeout_seconds;
  ProgressLine progress;
  bool began_draining = false;
  while (true) {
    v1::ListRanksResponse ranks;
    const absl::Status status = connection.ListRanks({}, &ranks);
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    if (absl::IsUnavailable(status)) return absl::OkStatus();
    began_draining |= IsDraining(ranks);
    // One that serves is another daemon, started in the place of the drained one: unless that has
    // not come to begin yet.
    if (status.ok() && !IsDraining(ranks) && (began_draining || seconds > kSecondsToBegin)) {
      return absl::OkStatus();
    }
    if (!status.ok() && !absl::IsCancelled(status)) return status;
    if (limit > 0 && seconds >= limit) {
      return absl::DeadlineExceededError("the daemon is still draining");
    }
    if (status.ok() && options.json) PrintJson(ranks);
    if (IsDraining(ranks) && !options.json) {
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
