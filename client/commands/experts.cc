#include <cstdint>

#include "client/commands/commands.h"
#include "client/expert_tokens_text.h"
#include "client/heat_map.h"
#include "client/live_view.h"
#include "client/output.h"
#include "client/placement_text.h"

namespace moed {
namespace {

absl::Status RunTokens(const ClientOptions& options, Connection& connection) {
  v1::GetExpertTokensRequest request;
  request.set_model(options.model);
  if (options.operate.token_limit.has_value()) request.set_limit(*options.operate.token_limit);
  v1::GetExpertTokensResponse response;
  const absl::Status status = connection.GetExpertTokens(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(FormatExpertTokens(response));
  }
  return absl::OkStatus();
}

absl::Status RunPlacement(const ClientOptions& options, Connection& connection) {
  v1::GetPlacementRequest request;
  request.set_model(options.model);
  v1::GetPlacementResponse response;
  const absl::Status status = connection.GetPlacement(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(FormatPlacement(response, StdoutStyle()));
  }
  return absl::OkStatus();
}

absl::Status WatchLoad(const ClientOptions& options, Connection& connection) {
  const OperatorOptions& o = options.operate;
  v1::WatchExpertLoadRequest request;
  request.set_model(options.model);
  if (o.window_seconds.has_value()) request.set_window_seconds(*o.window_seconds);
  if (o.interval_seconds.has_value()) request.set_interval_seconds(*o.interval_seconds);
  LiveView view;
  uint64_t frames = 0;
  return connection.WatchExpertLoad(request, [&](const v1::WatchExpertLoadResponse& message) {
    if (options.json) {
      PrintJson(message.load());
    } else {
      view.Show(FormatHeatMap(message.load(), StdoutStyle()));
    }
    return ++frames != o.frames;
  });
}

}  // namespace

absl::Status RunExperts(const ClientOptions& options, Connection& connection) {
  if (options.operate.tokens) return RunTokens(options, connection);
  if (options.operate.placement) return RunPlacement(options, connection);
  if (options.operate.watch) return WatchLoad(options, connection);
  v1::GetExpertLoadRequest request;
  request.set_model(options.model);
  if (options.operate.window_seconds.has_value()) {
    request.set_window_seconds(*options.operate.window_seconds);
  }
  v1::GetExpertLoadResponse response;
  const absl::Status status = connection.GetExpertLoad(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(FormatHeatMap(response, StdoutStyle()));
  }
  return absl::OkStatus();
}

}  // namespace moed
