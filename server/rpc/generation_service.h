// GenerationService: requests to the engine, what it hands out to the client.
#pragma once

#include <cstddef>

#include "moed/v1/generation.grpc.pb.h"
#include "server/admission/request_validator.h"
#include "server/rpc/call_counter.h"
#include "server/state/serving_state.h"

namespace moed {

// State and validator must outlive the service. Thread-safe.
class GenerationServiceImpl
    : public v1::GenerationService::WithRawCallbackMethod_StreamGenerate<
          v1::GenerationService::WithRawCallbackMethod_Generate<v1::GenerationService::Service>> {
 public:
  // A stream's reader may leave at most `stream_buffer_bytes` waiting before it is cut off.
  GenerationServiceImpl(const ServingState* state, const RequestValidator* validator,
                        size_t stream_buffer_bytes)
      : state_(state), validator_(validator), stream_buffer_bytes_(stream_buffer_bytes) {}

  // Accepted calls whose last bytes have not been handed to the network.
  CallCounter& live_calls() { return live_calls_; }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamGenerate(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;

 private:
  const ServingState* state_;
  const RequestValidator* validator_;
  const size_t stream_buffer_bytes_;
  CallCounter live_calls_;
};

}  // namespace moed
