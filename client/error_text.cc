#include "client/error_text.h"

#include <map>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "google/rpc/error_details.pb.h"

namespace moed {
namespace {

void AppendInfo(const google::rpc::ErrorInfo& info, std::string* text) {
  const std::map<std::string, std::string> sorted(info.metadata().begin(), info.metadata().end());
  absl::StrAppend(text, "\n  reason: ", info.reason());
  if (sorted.empty()) return;
  absl::StrAppend(text, " (", absl::StrJoin(sorted, ", ", absl::PairFormatter(" ")), ")");
}

// The text of an error about one field says it all.
void AppendFields(const google::rpc::BadRequest& request, absl::string_view message,
                  std::string* text) {
  for (const auto& violation : request.field_violations()) {
    absl::StrAppend(text, "\n  field: ", violation.field());
    if (!absl::StrContains(message, violation.description())) {
      absl::StrAppend(text, " ", violation.description());
    }
  }
}

void AppendRetry(const google::rpc::RetryInfo& info, std::string* text) {
  const double seconds = static_cast<double>(info.retry_delay().seconds()) +
                         1e-9 * static_cast<double>(info.retry_delay().nanos());
  absl::StrAppendFormat(text, "\n  try again in %g s", seconds);
}

}  // namespace

absl::Status WithDetails(absl::Status status, absl::string_view details) {
  google::rpc::Status message;
  if (details.empty() || status.ok() ||
      !message.ParseFromArray(details.data(), int(details.size())))
    return status;
  for (const google::protobuf::Any& detail : message.details()) {
    status.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  return status;
}

std::string FormatError(const absl::Status& status) {
  std::string text = absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
  const google::rpc::Status message = ErrorMessage(status);
  for (const google::protobuf::Any& detail : message.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest request;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      AppendInfo(info, &text);
    } else if (detail.UnpackTo(&request)) {
      AppendFields(request, status.message(), &text);
    } else if (detail.UnpackTo(&retry)) {
      AppendRetry(retry, &text);
    }
  }
  return text;
}

google::rpc::Status ErrorMessage(const absl::Status& status) {
  google::rpc::Status message;
  message.set_code(static_cast<int>(status.code()));
  message.set_message(std::string(status.message()));
  // By type, as the order of payloads is not told.
  std::map<std::string, std::string> payloads;
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& value) {
    payloads[std::string(type_url)] = std::string(value);
  });
  for (auto& [type_url, value] : payloads) {
    google::protobuf::Any* detail = message.add_details();
    detail->set_type_url(type_url);
    detail->set_value(std::move(value));
  }
  return message;
}

}  // namespace moed
