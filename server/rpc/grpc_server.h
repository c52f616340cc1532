// The gRPC listener with its services. gRPC's headers stay behind it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/admission/request_validator.h"
#include "server/state/serving_state.h"

namespace moed {

struct GrpcServerOptions {
  std::vector<std::string> listen;  // "host:port", port 0 for any; at least one
  bool reflection = false;
  size_t stream_buffer_bytes = size_t{1} << 20;
};

class GrpcServer {
 public:
  // Listens at once; health says NOT_SERVING. RESOURCE_EXHAUSTED names the address that cannot be
  // listened on. `state` and `validator` must outlive the server.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcServerOptions& options,
                                                           const ServingState* state,
                                                           const RequestValidator* validator);
  // Ends what is left of the calls.
  ~GrpcServer();

  // The ports, in the order of the options.
  const std::vector<int>& ports() const;

  // What health says of "" and of every service.
  void SetServing(bool serving);

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
