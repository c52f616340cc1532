// Everything that listens, and what it shares: keys, certificates, metrics, the access log.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/app/daemon_options.h"
#include "server/app/logging.h"
#include "server/state/admin_control.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

// Must outlive the front ends.
struct FrontEndParts {
  const ServingState* state = nullptr;
  const Lifecycle* lifecycle = nullptr;
  AdminControl* admin = nullptr;
  Log* log = nullptr;
};

class FrontEnds {
 public:
  // Reads keys and certificates and listens on every address. RESOURCE_EXHAUSTED names the address
  // that cannot be listened on; another error the file at fault.
  static absl::StatusOr<std::unique_ptr<FrontEnds>> Start(const DaemonOptions& options,
                                                          const FrontEndParts& parts);
  ~FrontEnds();

  // In the order of the options.
  const std::vector<int>& grpc_ports() const;
  const std::vector<int>& admin_ports() const;

  // What /livez says. Thread-safe.
  bool IsAlive() const;

  // What gRPC's health says.
  void SetServing(bool serving);

  // SIGHUP: reads keys and certificates again. What cannot be read is logged and counted, and what
  // was there stays.
  void Reload();

  // GrpcServer::Shutdown. Probes and metrics go on.
  void StopGrpc(absl::Duration grace);

 private:
  struct Impl;
  explicit FrontEnds(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace moed
