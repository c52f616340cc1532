#include "server/rpc/call_gate.h"

#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/errors/error_details.h"

namespace moed {
namespace {

constexpr char kAuthorizationKey[] = "authorization";

// The reason of an UNAVAILABLE. Whoever is still served while ready has a rank that failed: the
// phase follows a moment later.
absl::string_view UnavailableReason(LifecyclePhase phase) {
  switch (phase) {
    case LifecyclePhase::kLoading:
      return kReasonLoading;
    case LifecyclePhase::kReady:
    case LifecyclePhase::kFailed:
      return kReasonRankFailed;
    case LifecyclePhase::kDraining:
    case LifecyclePhase::kStopped:
      return kReasonDraining;
  }
  return kReasonDraining;
}

}  // namespace

absl::StatusOr<Caller> CallGate::Admit(const grpc::ServerContextBase& context,
                                       Access access) const {
  const auto& metadata = context.client_metadata();
  const auto [begin, end] = metadata.equal_range(kAuthorizationKey);
  std::optional<absl::string_view> authorization;
  if (begin != end) {
    // Of several, nobody could say which one a gateway has checked.
    const bool is_one = std::next(begin) == end;
    authorization = is_one ? absl::string_view(begin->second.data(), begin->second.size())
                           : absl::string_view();
  }
  return authenticator->Authenticate(authorization, PeerAddress(context.peer()), access);
}

absl::Status CallGate::CheckSize(const grpc::ByteBuffer& request) const {
  const auto limit = static_cast<size_t>(message_bytes);
  if (request.Length() <= limit) return absl::OkStatus();
  const std::string actual = absl::StrCat(request.Length());
  return WithReason(absl::ResourceExhaustedError(absl::StrCat(
                        "the request has ", actual, " bytes, at most ", limit, " are allowed")),
                    kReasonMessageTooLarge, {{"limit", absl::StrCat(limit)}, {"actual", actual}});
}

absl::StatusOr<Serving> CallGate::GetServing() const {
  absl::StatusOr<Serving> serving = state->Get();
  if (!serving.ok()) return Explain(serving.status());
  return serving;
}

absl::Status CallGate::Explain(absl::Status status) const {
  if (!absl::IsUnavailable(status) || lifecycle == nullptr) return status;
  return WithReason(std::move(status), UnavailableReason(lifecycle->phase()));
}

void CallGate::Record(const char* method, const absl::StatusOr<Caller>& caller,
                      const absl::Status& status, TimePoint received_at) const {
  RequestRecord record;
  record.method = method;
  if (caller.ok()) record.client = caller->client;
  record.status = status;
  record.reason = ReasonOf(status);
  record.client_cancelled = absl::IsCancelled(status);
  record.total_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - received_at).count();
  observer->OnEnd(record);
}

std::string PeerAddress(const std::string& grpc_peer) {
  absl::string_view rest(grpc_peer);
  if (absl::ConsumePrefix(&rest, "unix:") || absl::ConsumePrefix(&rest, "unix-abstract:")) {
    return "unix";
  }
  if (absl::ConsumePrefix(&rest, "ipv4:")) return std::string(rest.substr(0, rest.rfind(':')));
  if (!absl::ConsumePrefix(&rest, "ipv6:")) return "";
  // Escaped as in a URI; older texts have the brackets themselves.
  if (!absl::ConsumePrefix(&rest, "%5B") && !absl::ConsumePrefix(&rest, "[")) return "";
  size_t end = rest.find("%5D");
  if (end == absl::string_view::npos) end = rest.find(']');
  if (end == absl::string_view::npos) return "";
  rest = rest.substr(0, end);
  // A link-local address has its interface behind a percent sign: "%25eth0".
  return std::string(rest.substr(0, rest.find('%')));
}

}  // namespace moed
