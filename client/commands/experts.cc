#include "client/commands/commands.h"
#include "client/heat_map.h"
#include "client/output.h"

namespace moed {

absl::Status RunExperts(const ClientOptions& options, Connection& connection) {
  v1::GetExpertLoadRequest request;
  request.set_model(options.model);
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
