// A method that answers again and again.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/status.h"
#include "server/rpc/call_gate.h"
#include "server/rpc/periodic_streams.h"
#include "server/rpc/wire.h"

namespace moed {

// A call as gRPC hands it over, and what its method is.
struct WatchCall {
  grpc::CallbackServerContext* context;
  const grpc::ByteBuffer* request;
  const char* method;  // "WatchRanks"; of static storage
  Access access;
};

// Lets the caller in, parses a Request, asks the handler (const Request&) for a
// StatusOr<PeriodicAnswer> and streams; records when it ends. The gate outlives the stream.
template <typename Request, typename Handler>
PeriodicStreams::Reactor* AnswerWatch(const WatchCall& call, const CallGate& gate,
                                      PeriodicStreams& streams, Handler handler) {
  const TimePoint received_at = std::chrono::steady_clock::now();
  const absl::StatusOr<Caller> caller = gate.Admit(*call.context, call.access);
  const auto prepare = [&]() -> absl::StatusOr<PeriodicAnswer> {
    MOED_RETURN_IF_ERROR(caller.status());
    MOED_RETURN_IF_ERROR(gate.CheckSize(*call.request));
    Request request;
    MOED_RETURN_IF_ERROR(ParseMessage(*call.request, &request));
    return handler(request);
  };
  return streams.Start(call.context, prepare(),
                       [&gate, caller, received_at, method = call.method](const absl::Status& end) {
                         gate.Record(method, caller, end, received_at);
                       });
}

}  // namespace moed
