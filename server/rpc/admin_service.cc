#include "server/rpc/admin_service.h"

#include "server/handlers/admin_handler.h"
#include "server/handlers/watch_interval.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/watch_call.h"

namespace moed {
namespace {

// Calls `handler` with the model and engine there are, null where there are none.
template <typename Handler>
auto WithServing(const CallGate& gate, Handler handler) {
  const absl::StatusOr<Serving> serving = gate.state->Get();
  return handler(serving.ok() ? &*serving : nullptr);
}

v1::ListRanksResponse RanksNow(const CallGate& gate) {
  return WithServing(gate, [&](const Serving* serving) {
    return moed::ListRanks(gate.lifecycle->Snapshot(), serving);
  });
}

}  // namespace

grpc::ServerUnaryReactor* AdminServiceImpl::ListRanks(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return AnswerUnary<v1::ListRanksRequest>(
      {context, request, response, "ListRanks", Access::kMonitor}, gate_,
      [this](const v1::ListRanksRequest&) {
        return absl::StatusOr<v1::ListRanksResponse>(RanksNow(gate_));
      });
}

PeriodicStreams::Reactor* AdminServiceImpl::WatchRanks(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) {
  return AnswerWatch<v1::WatchRanksRequest>(
      {context, request, "WatchRanks", Access::kMonitor}, gate_, *streams_,
      [this](const v1::WatchRanksRequest& message) -> absl::StatusOr<PeriodicAnswer> {
        PeriodicAnswer answer;
        MOED_ASSIGN_OR_RETURN(answer.interval, WatchInterval(message));
        answer.answer = [this]() -> absl::StatusOr<grpc::ByteBuffer> {
          v1::WatchRanksResponse response;
          *response.mutable_ranks() = RanksNow(gate_);
          return SerializeMessage(response);
        };
        return answer;
      });
}

grpc::ServerUnaryReactor* AdminServiceImpl::AbortRequest(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return AnswerUnary<v1::AbortRequestRequest>(
      {context, request, response, "AbortRequest", Access::kAdmin}, gate_,
      [this](const v1::AbortRequestRequest& message) {
        return WithServing(
            gate_, [&](const Serving* serving) { return moed::AbortRequest(message, serving); });
      });
}

grpc::ServerUnaryReactor* AdminServiceImpl::Drain(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  return AnswerUnary<v1::DrainRequest>({context, request, response, "Drain", Access::kAdmin}, gate_,
                                       [this](const v1::DrainRequest& message) {
                                         return WithServing(gate_, [&](const Serving* serving) {
                                           return moed::Drain(message, serving, *control_);
                                         });
                                       });
}

grpc::ServerUnaryReactor* AdminServiceImpl::SetLogLevel(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return AnswerUnary<v1::SetLogLevelRequest>(
      {context, request, response, "SetLogLevel", Access::kAdmin}, gate_,
      [this](const v1::SetLogLevelRequest& message) {
        return moed::SetLogLevel(message, *control_);
      });
}

}  // namespace moed
