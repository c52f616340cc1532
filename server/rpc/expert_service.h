// ExpertService: expert load, once and live, tokens of each expert, placement.
#pragma once

#include "moed/v1/experts.grpc.pb.h"
#include "server/rpc/call_gate.h"
#include "server/rpc/periodic_streams.h"

namespace moed {

// All methods ask for Access::kMonitor: routing tells about content. Thread-safe.
class ExpertServiceImpl : public v1::ExpertService::WithRawCallbackMethod_GetExpertLoad<
                              v1::ExpertService::WithRawCallbackMethod_GetExpertTokens<
                                  v1::ExpertService::WithRawCallbackMethod_WatchExpertLoad<
                                      v1::ExpertService::WithRawCallbackMethod_GetPlacement<
                                          v1::ExpertService::Service>>>> {
 public:
  // `streams` must outlive the server.
  ExpertServiceImpl(const CallGate& gate, PeriodicStreams* streams)
      : gate_(gate), streams_(streams) {}

  grpc::ServerUnaryReactor* GetExpertLoad(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetExpertTokens(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response) override;
  PeriodicStreams::Reactor* WatchExpertLoad(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* GetPlacement(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;

 private:
  const CallGate gate_;
  PeriodicStreams* const streams_;
};

}  // namespace moed
