// A method with one answer that needs no waiting.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/status.h"
#include "server/rpc/wire.h"
#include "server/state/serving_state.h"

namespace moed {

// Parses a Request, asks `handler(const Request&, const Serving&)` for a StatusOr<message> and
// answers. UNAVAILABLE while nothing is served.
template <typename Request, typename Handler>
grpc::ServerUnaryReactor* AnswerUnary(grpc::CallbackServerContext* context,
                                      const ServingState& state,
                                      const grpc::ByteBuffer* request_bytes,
                                      grpc::ByteBuffer* response_bytes, Handler handler) {
  const auto answer = [&]() -> absl::Status {
    Request request;
    MOED_RETURN_IF_ERROR(ParseMessage(*request_bytes, &request));
    MOED_ASSIGN_OR_RETURN(const Serving serving, state.Get());
    MOED_ASSIGN_OR_RETURN(const auto response, handler(request, serving));
    *response_bytes = SerializeMessage(response);
    return absl::OkStatus();
  };
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(answer()));
  return reactor;
}

}  // namespace moed
