#include "server/rpc/wire.h"

#include <grpcpp/support/slice.h>

#include <string>

#include "gtest/gtest.h"
#include "moed/v1/generation.pb.h"
#include "moed/v1/tokenizer.pb.h"
#include "server/errors/error_details.h"

namespace moed {
namespace {

absl::Status Parse(const std::string& bytes, google::protobuf::Message* message) {
  const grpc::Slice slice(bytes);
  return ParseMessage(grpc::ByteBuffer(&slice, 1), message);
}

TEST(WireTest, ABadTextIsNamedByItsPath) {
  InstallProtobufLogHandler();
  v1::GenerateRequest request;
  // stopping (7) { stop_strings (3) }, chat (5) { messages { content (2) } }, text (3)
  EXPECT_EQ(Parse("\x3a\x03\x1a\x01\xff", &request),
            FieldError("stopping.stop_strings", "is not valid UTF-8"));
  EXPECT_EQ(Parse("\x2a\x05\x0a\x03\x12\x01\xff", &request),
            FieldError("chat.messages.content", "is not valid UTF-8"));
  v1::TokenizeRequest tokenize;
  EXPECT_EQ(Parse("\x12\x01\xff", &tokenize), FieldError("text", "is not valid UTF-8"));
}

TEST(WireTest, WhatIsNoMessageNamesTheMessage) {
  v1::TokenizeRequest request;
  EXPECT_EQ(Parse("\x12\x7f", &request),
            absl::InvalidArgumentError("the request's bytes are not a moed.v1.TokenizeRequest"));
}

}  // namespace
}  // namespace moed
