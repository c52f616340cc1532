#include "server/rpc/generation_service.h"

#include "server/rpc/generation_call.h"
#include "server/rpc/generation_stream.h"
#include "server/rpc/generation_unary.h"

namespace moed {

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationServiceImpl::StreamGenerate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return GenerationStream::Start(context, AdmitCall(context, *request, *state_, *validator_),
                                 stream_buffer_bytes_, &live_calls_);
}

grpc::ServerUnaryReactor* GenerationServiceImpl::Generate(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return GenerationUnary::Start(context, AdmitCall(context, *request, *state_, *validator_),
                                response, &live_calls_);
}

}  // namespace moed
