// What a streamed and a unary generation have in common: the way to the engine, and out of it.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/output/generation_sink.h"
#include "server/admission/request_validator.h"
#include "server/handlers/generation_messages.h"
#include "server/state/serving_state.h"

namespace moed {

// A request that has been checked, before the engine knows of it.
struct GenerationCall {
  Serving serving;
  AdmittedRequest admitted;
};

// Parses and validates; the deadline is the call's.
absl::StatusOr<GenerationCall> AdmitCall(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer& bytes, const ServingState& state,
                                         const RequestValidator& validator);

// Hands the request to the engine. Where its queue is full the client is told when to come back
// (grpc-retry-pushback-ms, gRFC A6).
absl::Status SubmitCall(grpc::CallbackServerContext* context, GenerationCall call,
                        std::shared_ptr<GenerationSink> sink);

}  // namespace moed
