// AdminService: ranks, once and live, abort, drain, log level.
#pragma once

#include "moed/v1/admin.grpc.pb.h"
#include "server/rpc/call_gate.h"
#include "server/rpc/periodic_streams.h"
#include "server/state/admin_control.h"

namespace moed {

// ListRanks and WatchRanks ask for Access::kMonitor, the others for Access::kAdmin. All answer
// while the model is loading. Thread-safe.
class AdminServiceImpl : public v1::AdminService::WithRawCallbackMethod_ListRanks<
                             v1::AdminService::WithRawCallbackMethod_WatchRanks<
                                 v1::AdminService::WithRawCallbackMethod_AbortRequest<
                                     v1::AdminService::WithRawCallbackMethod_Drain<
                                         v1::AdminService::WithRawCallbackMethod_SetLogLevel<
                                             v1::AdminService::Service>>>>> {
 public:
  // `streams` and `control` must outlive the server.
  AdminServiceImpl(const CallGate& gate, PeriodicStreams* streams, AdminControl* control)
      : gate_(gate), streams_(streams), control_(control) {}

  grpc::ServerUnaryReactor* ListRanks(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  PeriodicStreams::Reactor* WatchRanks(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* AbortRequest(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* SetLogLevel(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;

 private:
  const CallGate gate_;
  PeriodicStreams* const streams_;
  AdminControl* const control_;
};

}  // namespace moed
