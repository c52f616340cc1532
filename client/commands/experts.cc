#include "client/commands/commands.h"
#include "client/expert_tokens_text.h"
#include "client/heat_map.h"
#include "client/output.h"

namespace moed {
namespace {

absl::Status RunTokens(const ClientOptions& options, Connection& connection) {
  v1::GetExpertTokensRequest request;
  request.set_model(options.model);
  if (options.token_limit.has_value()) request.set_limit(*options.token_limit);
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

}  // namespace

absl::Status RunExperts(const ClientOptions& options, Connection& connection) {
  if (options.tokens) return RunTokens(options, connection);
  v1::GetExpertLoadRequest request;
  request.set_model(options.model);
  if (options.window_seconds.has_value()) request.set_window_seconds(*options.window_seconds);
  v1::GetExpertLoadResponse response;
  const absl::Status status = connection.GetExpertLoad(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(FormatHeatMap(response, WantsColor()));
  }
  return absl::OkStatus();
}

}  // namespace moed
