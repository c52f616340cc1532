#include "client/ranks_table.h"

#include <chrono>
#include <cstdint>

#include "client/commands/commands.h"
#include "client/live_view.h"
#include "client/output.h"

namespace moed {
namespace {

absl::Status WatchRanks(const ClientOptions& options, Connection& connection) {
  using Clock = std::chrono::steady_clock;
  v1::WatchRanksRequest request;
  if (options.operate.interval_seconds.has_value()) {
    request.set_interval_seconds(*options.operate.interval_seconds);
  }
  LiveView view;
  v1::ListRanksResponse before;
  Clock::time_point before_at;
  uint64_t frames = 0;
  return connection.WatchRanks(request, [&](const v1::WatchRanksResponse& message) {
    const Clock::time_point now = Clock::now();
    if (options.json) {
      PrintJson(message.ranks());
    } else {
      EarlierRanks earlier;
      if (frames > 0) {
        earlier = {.ranks = &before,
                   .seconds = std::chrono::duration<double>(now - before_at).count()};
      }
      view.Show(FormatRanks(message.ranks(), earlier, StdoutStyle()));
    }
    before = message.ranks();
    before_at = now;
    return ++frames != options.operate.frames;
  });
}

}  // namespace

absl::Status RunRanks(const ClientOptions& options, Connection& connection) {
  if (options.operate.watch) return WatchRanks(options, connection);
  v1::ListRanksResponse response;
  const absl::Status status = connection.ListRanks({}, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(FormatRanks(response, {}, StdoutStyle()));
  }
  return absl::OkStatus();
}

}  // namespace moed
