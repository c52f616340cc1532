#include "server/rpc/generation_service.h"

#include "server/rpc/generation_stream.h"
#include "server/rpc/generation_unary.h"

namespace moed {

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationServiceImpl::StreamGenerate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return GenerationStream::Start(context, AdmitCall(*context, *request, "StreamGenerate", parts_),
                                 parts_);
}

grpc::ServerUnaryReactor* GenerationServiceImpl::Generate(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request,
                                                          grpc::ByteBuffer* response) {
  return GenerationUnary::Start(context, AdmitCall(*context, *request, "Generate", parts_),
                                response, parts_);
}

}  // namespace moed
