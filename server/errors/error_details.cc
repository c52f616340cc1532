#include "server/errors/error_details.h"

#include <algorithm>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"

namespace moed {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/";
constexpr absl::string_view kDomain = "moed";

template <typename Detail>
std::string TypeUrl() {
  return absl::StrCat(kTypePrefix, absl::string_view(Detail::descriptor()->full_name()));
}

template <typename Detail>
void SetDetail(const Detail& detail, absl::Status* status) {
  status->SetPayload(TypeUrl<Detail>(), absl::Cord(detail.SerializeAsString()));
}

// Nothing where the status has none.
template <typename Detail>
std::optional<Detail> GetDetail(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(TypeUrl<Detail>());
  Detail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

}  // namespace

absl::Status FieldError(absl::string_view field, absl::string_view description) {
  return WithField(absl::InvalidArgumentError(absl::StrCat(field, " ", description)), field,
                   description);
}

absl::Status WithField(absl::Status status, absl::string_view field,
                       absl::string_view description) {
  if (status.ok()) return status;
  google::rpc::BadRequest bad_request;
  google::rpc::BadRequest::FieldViolation* violation = bad_request.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(std::string(description));
  SetDetail(bad_request, &status);
  return status;
}

absl::Status WithReason(
    absl::Status status, absl::string_view reason,
    std::initializer_list<std::pair<absl::string_view, absl::string_view>> metadata) {
  if (status.ok()) return status;
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain(std::string(kDomain));
  for (const auto& [key, value] : metadata) {
    (*info.mutable_metadata())[std::string(key)] = std::string(value);
  }
  SetDetail(info, &status);
  return status;
}

absl::Status WithRetryAfter(absl::Status status, std::chrono::milliseconds delay) {
  if (status.ok()) return status;
  google::rpc::RetryInfo info;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(delay);
  const std::chrono::nanoseconds rest = delay - seconds;
  info.mutable_retry_delay()->set_seconds(seconds.count());
  info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(rest.count()));
  SetDetail(info, &status);
  return status;
}

std::optional<std::chrono::milliseconds> RetryAfter(const absl::Status& status) {
  const std::optional<google::rpc::RetryInfo> info = GetDetail<google::rpc::RetryInfo>(status);
  if (!info.has_value()) return std::nullopt;
  const std::chrono::nanoseconds rest(info->retry_delay().nanos());
  return std::chrono::seconds(info->retry_delay().seconds()) +
         std::chrono::duration_cast<std::chrono::milliseconds>(rest);
}

std::string ReasonOf(const absl::Status& status) {
  const std::optional<google::rpc::ErrorInfo> info = GetDetail<google::rpc::ErrorInfo>(status);
  return info.has_value() ? info->reason() : "";
}

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status result;
  result.set_code(static_cast<int32_t>(status.code()));
  result.set_message(std::string(status.message()));
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    google::protobuf::Any* detail = result.add_details();
    detail->set_type_url(std::string(type_url));
    detail->set_value(std::string(payload));
  });
  // The payloads have no order of their own.
  std::sort(result.mutable_details()->begin(), result.mutable_details()->end(),
            [](const google::protobuf::Any& a, const google::protobuf::Any& b) {
              return a.type_url() < b.type_url();
            });
  return result;
}

}  // namespace moed
