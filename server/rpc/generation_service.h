// GenerationService: requests to the engine, what it hands out to the client.
#pragma once

#include "moed/v1/generation.grpc.pb.h"
#include "server/rpc/generation_call.h"

namespace moed {

// Thread-safe.
class GenerationServiceImpl
    : public v1::GenerationService::WithRawCallbackMethod_StreamGenerate<
          v1::GenerationService::WithRawCallbackMethod_Generate<v1::GenerationService::Service>> {
 public:
  explicit GenerationServiceImpl(const GenerationParts& parts) : parts_(parts) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamGenerate(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;

 private:
  const GenerationParts parts_;
};

}  // namespace moed
