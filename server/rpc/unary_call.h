// A method with one answer that needs no waiting.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/status.h"
#include "server/rpc/call_gate.h"
#include "server/rpc/wire.h"

namespace moed {

// A call as gRPC hands it over, and what its method is.
struct UnaryCall {
  grpc::CallbackServerContext* context;
  const grpc::ByteBuffer* request;
  grpc::ByteBuffer* response;
  const char* method;  // "Tokenize"; of static storage
  Access access;
};

// Lets the caller in, parses a Request, asks the handler for a StatusOr<message>, answers and
// records. The handler is called with (const Request&, const Serving&), UNAVAILABLE while nothing
// is served, or, where it takes no more, with (const Request&) at any time. It must not block.
template <typename Request, typename Handler>
grpc::ServerUnaryReactor* AnswerUnary(const UnaryCall& call, const CallGate& gate,
                                      Handler handler) {
  const TimePoint received_at = std::chrono::steady_clock::now();
  const absl::StatusOr<Caller> caller = gate.Admit(*call.context, call.access);
  const auto answer = [&]() -> absl::Status {
    MOED_RETURN_IF_ERROR(caller.status());
    MOED_RETURN_IF_ERROR(gate.CheckSize(*call.request));
    Request request;
    MOED_RETURN_IF_ERROR(ParseMessage(*call.request, &request));
    if constexpr (std::is_invocable_v<Handler, const Request&>) {
      MOED_ASSIGN_OR_RETURN(const auto response, handler(request));
      *call.response = SerializeMessage(response);
    } else {
      MOED_ASSIGN_OR_RETURN(const Serving serving, gate.GetServing());
      MOED_ASSIGN_OR_RETURN(const auto response, handler(request, serving));
      *call.response = SerializeMessage(response);
    }
    return absl::OkStatus();
  };
  const absl::Status status = answer();
  gate.Record(call.method, caller, status, received_at);
  grpc::ServerUnaryReactor* reactor = call.context->DefaultReactor();
  reactor->Finish(EndCall(call.context, status));
  return reactor;
}

}  // namespace moed
