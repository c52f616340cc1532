// The gRPC listener with its services. gRPC's headers stay behind it.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/admission/client_limiter.h"
#include "server/admission/request_validator.h"
#include "server/observe/request_observer.h"
#include "server/security/authenticator.h"
#include "server/security/certificate_store.h"
#include "server/state/admin_control.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

struct GrpcServerOptions {
  std::vector<std::string> listen;  // "host:port", port 0 for any; at least one
  bool reflection = false;
  size_t stream_buffer_bytes = size_t{1} << 20;
  // With output waiting and none taken for so long a reader is cut off; 0: never.
  std::chrono::milliseconds slow_reader_timeout{30000};
  int max_connections =
      4096;  // more wait in the kernel's queue; 0: as many as there are descriptors
  int max_streams_per_connection = 2048;
  std::chrono::milliseconds keepalive{60000};       // between pings on a quiet connection; 0: none
  std::chrono::milliseconds max_connection_age{0};  // 0: no limit; calls are let finish
  int max_metadata_bytes = 16 << 10;                // of one call, either way
};

// What the server works with. All but the certificates must outlive it.
struct GrpcServerParts {
  const ServingState* state = nullptr;
  const Lifecycle* lifecycle = nullptr;
  const RequestValidator* validator = nullptr;
  const Authenticator* authenticator = nullptr;
  RequestObserver* observer = nullptr;
  ClientLimiter* limiter = nullptr;
  AdminControl* admin = nullptr;
  std::shared_ptr<const CertificateStore> certificates;  // null: no TLS
  // Called, on the thread that accepts, when a connection must wait for room: see AcceptLoop. May
  // be null.
  std::function<void()> on_connection_waits;
};

class GrpcServer {
 public:
  // Listens at once; health says NOT_SERVING. RESOURCE_EXHAUSTED names the address that cannot be
  // listened on.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcServerOptions& options,
                                                           const GrpcServerParts& parts);
  // Ends what is left of the calls.
  ~GrpcServer();

  // The ports, in the order of the options.
  const std::vector<int>& ports() const;

  // What health says of "" and of every service.
  void SetServing(bool serving);

  // How long the thread that accepts connections has not come round; it does twice a second.
  std::chrono::milliseconds accept_silence() const;

  // Waits up to `grace` for what generations that have ended in the engine still write, then
  // cancels what is left and stops listening. The engine must be there until this has returned.
  // Calls after the first do nothing.
  void Shutdown(absl::Duration grace);

 private:
  struct Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace moed
