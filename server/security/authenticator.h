// Checks the key that a call or an HTTP request brings. The one place that decides who may do what.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/security/caller.h"
#include "server/security/key_ring.h"

namespace moed {

// What a method or a route asks for.
enum class Access : uint8_t {
  kGenerate,  // any key
  kMonitor,   // a key of Role::kMonitor or kAdmin
  kAdmin,     // a key of Role::kAdmin
};

// Thread-safe.
//
// With keys: "Authorization: Bearer KEY", or "Basic" with the key as the password, so that a
// browser can ask for it. Without keys everybody may generate, and peers on this machine may do the
// rest.
class Authenticator {
 public:
  // `keys` null: the server has no keys.
  explicit Authenticator(std::shared_ptr<const KeyRing> keys) : keys_(std::move(keys)) {}

  // `authorization`: the header's value, nullopt without one. `peer_address`: "127.0.0.1", "::1",
  // without a port; empty where unknown, which counts as another machine.
  // UNAUTHENTICATED (KEY_MISSING, KEY_INVALID) or PERMISSION_DENIED (ROLE_REQUIRED); the texts do
  // not tell a key that is unknown from one that has been taken back.
  absl::StatusOr<Caller> Authenticate(std::optional<absl::string_view> authorization,
                                      absl::string_view peer_address, Access access) const;

  bool has_keys() const { return keys_ != nullptr; }

 private:
  const std::shared_ptr<const KeyRing> keys_;
};

// Whether the address is this machine's own: 127.0.0.0/8, ::1, ::ffff:127.0.0.0/104, a Unix socket
// ("unix").
bool IsLoopbackAddress(absl::string_view address);

}  // namespace moed
