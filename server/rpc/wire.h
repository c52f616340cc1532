// Messages as bytes, errors as gRPC's. The methods are raw, so that malformed bytes are answered as
// our contract says and not as the library's.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace moed {

// INVALID_ARGUMENT for malformed bytes and for text that is not UTF-8, which starts with the
// field's path ("stopping.stop_strings").
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message);

grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message);

// Code, text and details (grpc-status-details-bin). The codes of both are the same numbers.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The same for what a call ends with: clients that repeat calls by themselves are told when
// (grpc-retry-pushback-ms). Before Finish, on the thread that calls it.
grpc::Status EndCall(grpc::ServerContextBase* context, const absl::Status& status);

// Protobuf reports bad UTF-8 on stderr, with a field name and once per request; ParseMessage tells
// the client instead. Call once, before the first ParseMessage.
void InstallProtobufLogHandler();

}  // namespace moed
