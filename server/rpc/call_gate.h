// What every method does first and last: who calls, may they, and a record of how it ended.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/observe/request_observer.h"
#include "server/security/authenticator.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

// What the services share; a value, all that it points to outlives them. Thread-safe.
struct CallGate {
  const ServingState* state = nullptr;
  const Authenticator* authenticator = nullptr;
  RequestObserver* observer = nullptr;
  const Lifecycle* lifecycle = nullptr;
  int32_t message_bytes = 4 << 20;

  // UNAUTHENTICATED, PERMISSION_DENIED: Authenticator::Authenticate of the call's metadata and
  // peer. Before anything else is done with a call.
  absl::StatusOr<Caller> Admit(const grpc::ServerContextBase& context, Access access) const;

  // RESOURCE_EXHAUSTED (MESSAGE_TOO_LARGE, with limit and actual).
  absl::Status CheckSize(const grpc::ByteBuffer& request) const;

  // UNAVAILABLE while nothing is served: LOADING with the progress, DRAINING, RANK_FAILED.
  absl::StatusOr<Serving> GetServing() const;
  // The status, with a reason where it is UNAVAILABLE: the one that fits the daemon's phase.
  absl::Status Explain(absl::Status status) const;

  // Tells the observer how a method without a generation ended.
  void Record(const char* method, const absl::StatusOr<Caller>& caller, const absl::Status& status,
              TimePoint received_at) const;
};

// "ipv4:127.0.0.1:5000" and "ipv6:%5B::1%5D:5000" as an address without port; "unix" for a Unix
// socket; empty for what it does not know.
std::string PeerAddress(const std::string& grpc_peer);

}  // namespace moed
