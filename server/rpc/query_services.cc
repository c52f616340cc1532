#include "server/rpc/query_services.h"

#include "server/handlers/expert_handler.h"
#include "server/handlers/model_handler.h"
#include "server/handlers/tokenizer_handler.h"
#include "server/rpc/unary_call.h"

namespace moed {

grpc::ServerUnaryReactor* TokenizerServiceImpl::Tokenize(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return AnswerUnary<v1::TokenizeRequest>(
      context, *state_, request, response,
      [](const v1::TokenizeRequest& message, const Serving& serving) {
        return moed::Tokenize(message, *serving.model);
      });
}

grpc::ServerUnaryReactor* TokenizerServiceImpl::Detokenize(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request,
                                                           grpc::ByteBuffer* response) {
  return AnswerUnary<v1::DetokenizeRequest>(
      context, *state_, request, response,
      [](const v1::DetokenizeRequest& message, const Serving& serving) {
        return moed::Detokenize(message, *serving.model);
      });
}

grpc::ServerUnaryReactor* TokenizerServiceImpl::RenderChat(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request,
                                                           grpc::ByteBuffer* response) {
  return AnswerUnary<v1::RenderChatRequest>(
      context, *state_, request, response,
      [this](const v1::RenderChatRequest& message, const Serving& serving) {
        return moed::RenderChat(message, *serving.model, limits_);
      });
}

grpc::ServerUnaryReactor* ModelServiceImpl::GetModel(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetModelRequest>(
      context, *state_, request, response,
      [this](const v1::GetModelRequest& message, const Serving& serving) {
        return moed::GetModel(message, serving, limits_);
      });
}

grpc::ServerUnaryReactor* ModelServiceImpl::ListModels(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return AnswerUnary<v1::ListModelsRequest>(
      context, *state_, request, response,
      [this](const v1::ListModelsRequest&, const Serving& serving) {
        return absl::StatusOr<v1::ListModelsResponse>(moed::ListModels(*serving.model, limits_));
      });
}

grpc::ServerUnaryReactor* ExpertServiceImpl::GetExpertLoad(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request,
                                                           grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetExpertLoadRequest>(
      context, *state_, request, response,
      [](const v1::GetExpertLoadRequest& message, const Serving& serving) {
        return moed::GetExpertLoad(message, serving);
      });
}

grpc::ServerUnaryReactor* ExpertServiceImpl::GetExpertTokens(grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* request,
                                                             grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetExpertTokensRequest>(
      context, *state_, request, response,
      [](const v1::GetExpertTokensRequest& message, const Serving& serving) {
        return moed::GetExpertTokens(message, serving);
      });
}

}  // namespace moed
