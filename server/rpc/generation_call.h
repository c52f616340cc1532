// What a streamed and a unary generation have in common: the way to the engine.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/output/writer_threads.h"
#include "server/admission/client_limiter.h"
#include "server/admission/request_validator.h"
#include "server/observe/request_record.h"
#include "server/rpc/call_counter.h"
#include "server/rpc/call_gate.h"
#include "server/rpc/write_timeouts.h"

namespace moed {

// What generations are served with; a value, all that it points to outlives them.
struct GenerationParts {
  CallGate gate;
  const RequestValidator* validator = nullptr;
  ClientLimiter* limiter = nullptr;
  WriteTimeouts* write_timeouts = nullptr;
  WriterThreads* writers = nullptr;
  CallCounter* live_calls = nullptr;
  // A stream's reader may leave so much waiting before it is cut off.
  size_t stream_buffer_bytes = size_t{1} << 20;
};

// A request that has been checked, before the engine knows of it.
struct GenerationCall {
  RequestRecord record;  // method, client, request_id
  TimePoint received_at;
  ClientLimiter::Place place;  // for as long as the call lives
  Serving serving;
  AdmittedRequest admitted;
};

// Lets the caller in, parses and validates; the deadline is the call's. An error has been recorded.
absl::StatusOr<GenerationCall> AdmitCall(const grpc::CallbackServerContext& context,
                                         const grpc::ByteBuffer& bytes, const char* method,
                                         const GenerationParts& parts);

}  // namespace moed
