#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/output.h"

namespace moed {

absl::Status RunLogLevel(const ClientOptions& options, Connection& connection) {
  v1::SetLogLevelRequest request;
  request.set_level(options.operate.log_level);
  v1::SetLogLevelResponse response;
  const absl::Status status = connection.SetLogLevel(request, &response);
  if (!status.ok()) return status;
  if (options.json) {
    PrintJson(response);
  } else {
    PrintText(absl::StrCat("logs ", request.level(), " and above, until SIGHUP or the end\n"));
  }
  return absl::OkStatus();
}

}  // namespace moed
