#include "server/security/authenticator.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/errors/error_details.h"

namespace moed {
namespace {

constexpr absl::string_view kHowToSend = "send 'authorization: Bearer KEY'";

absl::Status KeyMissing() {
  return WithReason(absl::UnauthenticatedError(absl::StrCat("a key is needed: ", kHowToSend)),
                    kReasonKeyMissing);
}

absl::Status KeyInvalid() {
  return WithReason(absl::UnauthenticatedError(absl::StrCat("the key is not valid; ", kHowToSend)),
                    kReasonKeyInvalid);
}

absl::Status RoleRequired(absl::string_view text) {
  return WithReason(absl::PermissionDeniedError(text), kReasonRoleRequired);
}

// The key in "Bearer KEY" or "Basic BASE64(ANYTHING:KEY)".
std::optional<std::string> KeyOf(absl::string_view authorization) {
  authorization = absl::StripAsciiWhitespace(authorization);
  const size_t space = authorization.find(' ');
  if (space == absl::string_view::npos) return std::nullopt;
  const absl::string_view scheme = authorization.substr(0, space);
  const absl::string_view credentials = absl::StripAsciiWhitespace(authorization.substr(space));
  if (absl::EqualsIgnoreCase(scheme, "bearer")) return std::string(credentials);
  if (!absl::EqualsIgnoreCase(scheme, "basic")) return std::nullopt;
  std::string user_and_key;
  if (!absl::Base64Unescape(credentials, &user_and_key)) return std::nullopt;
  const size_t colon = user_and_key.find(':');
  if (colon == std::string::npos) return std::nullopt;
  return user_and_key.substr(colon + 1);
}

bool IsAllowed(Role role, Access access) {
  switch (access) {
    case Access::kGenerate:
      return true;
    case Access::kMonitor:
      return role == Role::kMonitor || role == Role::kAdmin;
    case Access::kAdmin:
      return role == Role::kAdmin;
  }
  return false;
}

}  // namespace

absl::StatusOr<Caller> Authenticator::Authenticate(std::optional<absl::string_view> authorization,
                                                   absl::string_view peer_address,
                                                   Access access) const {
  if (keys_ == nullptr) {
    const Role role = IsLoopbackAddress(peer_address) ? Role::kAdmin : Role::kUser;
    if (!IsAllowed(role, access)) {
      return RoleRequired(
          "the server has no key file; without one this is only for connections over loopback");
    }
    return Caller{std::string(peer_address), role};
  }
  if (!authorization) return KeyMissing();
  const std::optional<std::string> key = KeyOf(*authorization);
  if (!key) return KeyInvalid();
  std::optional<Caller> caller = keys_->Find(*key);
  if (!caller) return KeyInvalid();
  if (!IsAllowed(caller->role, access)) {
    return RoleRequired(access == Access::kMonitor ? "this needs a key of role monitor or admin"
                                                   : "this needs a key of role admin");
  }
  return *std::move(caller);
}

bool IsLoopbackAddress(absl::string_view address) {
  if (address == "unix") return true;
  const std::string text(address);
  in_addr ipv4 = {};
  if (inet_pton(AF_INET, text.c_str(), &ipv4) == 1) {
    return (ntohl(ipv4.s_addr) >> IN_CLASSA_NSHIFT) == IN_LOOPBACKNET;
  }
  in6_addr ipv6 = {};
  if (inet_pton(AF_INET6, text.c_str(), &ipv6) != 1) return false;
  if (IN6_IS_ADDR_V4MAPPED(&ipv6)) return ipv6.s6_addr[12] == IN_LOOPBACKNET;
  return IN6_IS_ADDR_LOOPBACK(&ipv6) != 0;
}

}  // namespace moed
