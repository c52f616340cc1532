#include "server/rpc/expert_service.h"

#include "server/handlers/expert_handler.h"
#include "server/handlers/watch_interval.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/watch_call.h"

namespace moed {
namespace {

// One answer of a watch.
absl::StatusOr<grpc::ByteBuffer> WatchedLoad(const CallGate& gate,
                                             const v1::GetExpertLoadRequest& request) {
  MOED_ASSIGN_OR_RETURN(const Serving serving, gate.GetServing());
  v1::WatchExpertLoadResponse response;
  MOED_ASSIGN_OR_RETURN(*response.mutable_load(), moed::GetExpertLoad(request, serving));
  return SerializeMessage(response);
}

}  // namespace

grpc::ServerUnaryReactor* ExpertServiceImpl::GetExpertLoad(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request,
                                                           grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetExpertLoadRequest>(
      {context, request, response, "GetExpertLoad", Access::kMonitor}, gate_, moed::GetExpertLoad);
}

grpc::ServerUnaryReactor* ExpertServiceImpl::GetExpertTokens(grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* request,
                                                             grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetExpertTokensRequest>(
      {context, request, response, "GetExpertTokens", Access::kMonitor}, gate_,
      moed::GetExpertTokens);
}

PeriodicStreams::Reactor* ExpertServiceImpl::WatchExpertLoad(grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* request) {
  return AnswerWatch<v1::WatchExpertLoadRequest>(
      {context, request, "WatchExpertLoad", Access::kMonitor}, gate_, *streams_,
      [this](const v1::WatchExpertLoadRequest& message) -> absl::StatusOr<PeriodicAnswer> {
        PeriodicAnswer answer;
        MOED_ASSIGN_OR_RETURN(answer.interval, WatchInterval(message));
        answer.answer = [this, load = LoadRequest(message)] { return WatchedLoad(gate_, load); };
        return answer;
      });
}

grpc::ServerUnaryReactor* ExpertServiceImpl::GetPlacement(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetPlacementRequest>(
      {context, request, response, "GetPlacement", Access::kMonitor}, gate_,
      [](const v1::GetPlacementRequest& message, const Serving& serving) {
        return moed::GetPlacement(message, *serving.model);
      });
}

}  // namespace moed
