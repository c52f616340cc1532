// The services that answer at once: tokenizer, model, experts.
#pragma once

#include "moed/v1/experts.grpc.pb.h"
#include "moed/v1/model.grpc.pb.h"
#include "moed/v1/tokenizer.grpc.pb.h"
#include "server/state/request_limits.h"
#include "server/state/serving_state.h"

namespace moed {

// The state must outlive the services. Thread-safe.
class TokenizerServiceImpl : public v1::TokenizerService::WithRawCallbackMethod_Tokenize<
                                 v1::TokenizerService::WithRawCallbackMethod_Detokenize<
                                     v1::TokenizerService::WithRawCallbackMethod_RenderChat<
                                         v1::TokenizerService::Service>>> {
 public:
  TokenizerServiceImpl(const ServingState* state, RequestLimits limits)
      : state_(state), limits_(limits) {}

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* RenderChat(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  const ServingState* state_;
  RequestLimits limits_;
};

class ModelServiceImpl
    : public v1::ModelService::WithRawCallbackMethod_GetModel<
          v1::ModelService::WithRawCallbackMethod_ListModels<v1::ModelService::Service>> {
 public:
  ModelServiceImpl(const ServingState* state, RequestLimits limits)
      : state_(state), limits_(limits) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  const ServingState* state_;
  RequestLimits limits_;
};

class ExpertServiceImpl
    : public v1::ExpertService::WithRawCallbackMethod_GetExpertLoad<
          v1::ExpertService::WithRawCallbackMethod_GetExpertTokens<v1::ExpertService::Service>> {
 public:
  explicit ExpertServiceImpl(const ServingState* state) : state_(state) {}

  grpc::ServerUnaryReactor* GetExpertLoad(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetExpertTokens(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response) override;

 private:
  const ServingState* state_;
};

}  // namespace moed
