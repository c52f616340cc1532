#include "server/rpc/wire.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/stubs/logging.h"
#include "google/rpc/status.pb.h"
#include "server/errors/error_details.h"

namespace moed {
namespace {

constexpr char kRetryPushbackKey[] = "grpc-retry-pushback-ms";

// The field that protobuf has just complained about on this thread.
thread_local std::string bad_utf8_field;

// Protobuf's text: "String field 'moed.v1.X.y' contains invalid UTF-8 data when parsing ...".
void OnProtobufLog(google::protobuf::LogLevel level, const char* file, int line,
                   const std::string& text) {
  const size_t begin = text.find("String field '");
  const size_t end = text.find("' contains invalid UTF-8");
  if (begin != std::string::npos && end != std::string::npos) {
    constexpr size_t kPrefixBytes = sizeof("String field '") - 1;
    bad_utf8_field = text.substr(begin + kPrefixBytes, end - begin - kPrefixBytes);
    return;
  }
  if (level >= google::protobuf::LOGLEVEL_ERROR) {
    std::fprintf(stderr, "protobuf: %s:%d: %s\n", file, line, text.c_str());
  }
}

// The way from a message to the field with this full name ("moed.v1.X.y"), or that name where there
// is none. No message of the contract holds itself.
std::string FieldPath(const google::protobuf::Descriptor& message, absl::string_view full_name) {
  for (int i = 0; i < message.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *message.field(i);
    if (absl::string_view(field.full_name()) == full_name) return field.name();
    if (field.message_type() == nullptr) continue;
    const std::string inside = FieldPath(*field.message_type(), full_name);
    if (inside != full_name) return absl::StrCat(field.name(), ".", inside);
  }
  return std::string(full_name);
}

}  // namespace

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message) {
  // A reader consumes the buffer it is given; copying one only counts references.
  grpc::ByteBuffer copy(bytes);
  grpc::ProtoBufferReader reader(&copy);
  bad_utf8_field.clear();
  if (reader.status().ok() && message->ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  if (!bad_utf8_field.empty()) {
    return FieldError(FieldPath(*message->GetDescriptor(), bad_utf8_field), "is not valid UTF-8");
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the request's bytes are not a ", message->GetTypeName()));
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message) {
  grpc::Slice slice(message.ByteSizeLong());
  // Nobody else has seen the bytes yet.
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string details;
  if (const google::rpc::Status rpc_status = ToRpcStatus(status); rpc_status.details_size() > 0) {
    details = rpc_status.SerializeAsString();
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      details);
}

grpc::Status EndCall(grpc::ServerContextBase* context, const absl::Status& status) {
  const std::optional<std::chrono::milliseconds> delay = RetryAfter(status);
  if (delay.has_value()) {
    context->AddTrailingMetadata(kRetryPushbackKey, absl::StrCat(delay->count()));
  }
  return ToGrpcStatus(status);
}

void InstallProtobufLogHandler() { google::protobuf::SetLogHandler(OnProtobufLog); }

}  // namespace moed
