#include "server/rpc/query_services.h"

#include "server/handlers/model_handler.h"
#include "server/handlers/tokenizer_handler.h"
#include "server/rpc/unary_call.h"

namespace moed {

grpc::ServerUnaryReactor* TokenizerServiceImpl::Tokenize(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return AnswerUnary<v1::TokenizeRequest>(
      {context, request, response, "Tokenize", Access::kGenerate}, gate_,
      [](const v1::TokenizeRequest& message, const Serving& serving) {
        return moed::Tokenize(message, *serving.model);
      });
}

grpc::ServerUnaryReactor* TokenizerServiceImpl::Detokenize(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request,
                                                           grpc::ByteBuffer* response) {
  return AnswerUnary<v1::DetokenizeRequest>(
      {context, request, response, "Detokenize", Access::kGenerate}, gate_,
      [](const v1::DetokenizeRequest& message, const Serving& serving) {
        return moed::Detokenize(message, *serving.model);
      });
}

grpc::ServerUnaryReactor* TokenizerServiceImpl::RenderChat(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request,
                                                           grpc::ByteBuffer* response) {
  return AnswerUnary<v1::RenderChatRequest>(
      {context, request, response, "RenderChat", Access::kGenerate}, gate_,
      [this](const v1::RenderChatRequest& message, const Serving& serving) {
        return moed::RenderChat(message, *serving.model, limits_);
      });
}

grpc::ServerUnaryReactor* ModelServiceImpl::GetModel(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetModelRequest>(
      {context, request, response, "GetModel", Access::kGenerate}, gate_,
      [this](const v1::GetModelRequest& message, const Serving& serving) {
        return moed::GetModel(message, serving, limits_);
      });
}

grpc::ServerUnaryReactor* ModelServiceImpl::ListModels(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return AnswerUnary<v1::ListModelsRequest>(
      {context, request, response, "ListModels", Access::kGenerate}, gate_,
      [this](const v1::ListModelsRequest&, const Serving& serving) {
        return absl::StatusOr<v1::ListModelsResponse>(moed::ListModels(*serving.model, limits_));
      });
}

}  // namespace moed
