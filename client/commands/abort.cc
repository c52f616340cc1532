#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/output.h"

namespace moed {

absl::Status RunAbort(const ClientOptions& options, Connection& connection) {
  v1::AbortRequestRequest request;
  request.set_request_id(options.operate.request_id);
  v1::AbortRequestResponse response;
  const absl::Status status = connection.AbortRequest(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(absl::StrCat("ended ", request.request_id(), "\n"));
  }
  return absl::OkStatus();
}

}  // namespace moed
