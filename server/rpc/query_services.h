// The services that answer at once to whoever may generate: tokenizer, model.
#pragma once

#include "moed/v1/model.grpc.pb.h"
#include "moed/v1/tokenizer.grpc.pb.h"
#include "server/rpc/call_gate.h"
#include "server/state/request_limits.h"

namespace moed {

// Thread-safe.
class TokenizerServiceImpl : public v1::TokenizerService::WithRawCallbackMethod_Tokenize<
                                 v1::TokenizerService::WithRawCallbackMethod_Detokenize<
                                     v1::TokenizerService::WithRawCallbackMethod_RenderChat<
                                         v1::TokenizerService::Service>>> {
 public:
  TokenizerServiceImpl(const CallGate& gate, const RequestLimits& limits)
      : gate_(gate), limits_(limits) {}

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
  const CallGate gate_;
  const RequestLimits limits_;
};

class ModelServiceImpl
    : public v1::ModelService::WithRawCallbackMethod_GetModel<
          v1::ModelService::WithRawCallbackMethod_ListModels<v1::ModelService::Service>> {
 public:
  ModelServiceImpl(const CallGate& gate, const RequestLimits& limits)
      : gate_(gate), limits_(limits) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  const CallGate gate_;
  const RequestLimits limits_;
};

}  // namespace moed
