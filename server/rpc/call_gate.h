// What every method does first and last: who calls, may they, and a record of how it ended.
#pragma once

#include <grpcpp/server_context.h>

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/observe/request_observer.h"
#include "server/security/authenticator.h"
#include "server/state/serving_state.h"

namespace moed {

// What the services share. Everything outlives them. Thread-safe.
struct CallGate {
  const ServingState* state = nullptr;
  const Authenticator* authenticator = nullptr;
  RequestObserver* observer = nullptr;

  // UNAUTHENTICATED, PERMISSION_DENIED: Authenticator::Authenticate of the call's metadata and
  // peer.
  absl::StatusOr<Caller> Admit(const grpc::ServerContextBase& context, Access access) const;

  // Tells the observer how a method without a generation ended.
  void Record(const char* method, const absl::StatusOr<Caller>& caller, const absl::Status& status,
              TimePoint received_at) const;
};

// "ipv4:127.0.0.1:5000" and "ipv6:%5B::1%5D:5000" as an address without port; "unix" for a Unix
// socket; empty for what it does not know.
std::string PeerAddress(const std::string& grpc_peer);

}  // namespace moed
