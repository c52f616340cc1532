// Clients that do not read what they asked for.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/support/grpc_test_server.h"
#include "tests/server/support/outputs.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

constexpr size_t kNeverFull = size_t{1} << 30;

GrpcTestOptions Options(std::chrono::milliseconds timeout) {
  GrpcTestOptions options;
  options.server.stream_buffer_bytes = 1 << 16;
  options.server.slow_reader_timeout = timeout;
  return options;
}

GenerationDelta Much() { return MakeDelta(std::string(1 << 14, 'x')); }

grpc::Status ReadToTheEnd(grpc::ClientReader<v1::StreamGenerateResponse>* reader) {
  v1::StreamGenerateResponse message;
  while (reader->Read(&message)) EXPECT_FALSE(message.has_finish());
  return reader->Finish();
}

TEST(SlowReaderTest, IsCutOffWhenTheBufferIsFull) {
  GrpcTestServer server(Options(std::chrono::hours(1)));
  grpc::ClientContext context;
  const auto reader = server.generation().StreamGenerate(&context, StreamRequest("r"));
  server.engine().WaitForRequest("r");
  // The connection takes what its windows hold, then the box fills.
  for (int i = 0; server.engine().Emit("r", Much()); ++i) ASSERT_LT(i, 100000);
  server.engine().Finish("r", EndedWith(absl::ResourceExhaustedError("cut off")));
  const grpc::Status status = ReadToTheEnd(reader.get());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("SLOW_READER"));
  const RequestRecord record = server.observer().WaitForRecords(1)[0];
  EXPECT_TRUE(record.slow_reader);
  EXPECT_EQ(record.reason, "SLOW_READER");
  EXPECT_FALSE(record.client_cancelled);
}

// More than all windows and socket buffers hold.
void Flood(FakeEngine& engine, const std::string& id) {
  for (int i = 0; i < 4096 && engine.Emit(id, Much()); ++i) {
  }
}

// A call holds its place until it is gone.
void WaitForNoCalls(GrpcTestServer& server) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (server.limiter().num_clients() > 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), end);
    std::this_thread::yield();
  }
}

TEST(SlowReaderTest, WhoTakesNothingForTheTimeoutLosesTheRequest) {
  GrpcTestOptions options = Options(std::chrono::milliseconds(200));
  options.server.stream_buffer_bytes = kNeverFull;
  GrpcTestServer server(options);
  grpc::ClientContext context;
  const auto reader = server.generation().StreamGenerate(&context, StreamRequest("r"));
  server.engine().WaitForRequest("r");
  Flood(server.engine(), "r");
  EXPECT_EQ(server.engine().WaitForCancel("r").code(), absl::StatusCode::kResourceExhausted);
  const RequestRecord record = server.observer().WaitForRecords(1)[0];
  EXPECT_TRUE(record.slow_reader);
  EXPECT_EQ(record.reason, "SLOW_READER");
  // Reading at last tells why, or, once the call has been reset, at least that it has.
  const grpc::Status status = ReadToTheEnd(reader.get());
  if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
    EXPECT_THAT(status.error_message(), HasSubstr("SLOW_READER"));
  } else {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST(SlowReaderTest, WhoTakesNothingForTwoTimeoutsLosesTheCall) {
  GrpcTestOptions options = Options(std::chrono::milliseconds(100));
  options.server.stream_buffer_bytes = kNeverFull;
  options.limits.requests_per_client = 1;
  GrpcTestServer server(options);
  grpc::ClientContext context;
  const auto reader = server.generation().StreamGenerate(&context, StreamRequest("r"));
  server.engine().WaitForRequest("r");
  // All in one write, which cannot end. After a small one that is only late the call ends as well,
  // and is told why.
  server.engine().Emit("r", MakeDelta(std::string(size_t{32} << 20, 'x')));
  WaitForNoCalls(server);  // nobody has read anything
  EXPECT_EQ(ReadToTheEnd(reader.get()).error_code(), grpc::StatusCode::CANCELLED);
}

TEST(SlowReaderTest, WhoHasNothingToReadIsNotSlow) {
  // Long enough for a busy machine to finish the write of what has been read.
  GrpcTestOptions options = Options(std::chrono::milliseconds(200));
  options.server.stream_buffer_bytes = kNeverFull;
  GrpcTestServer server(options);
  grpc::ClientContext context;
  const auto reader = server.generation().StreamGenerate(&context, StreamRequest("r"));
  server.engine().WaitForRequest("r");
  v1::StreamGenerateResponse message;
  server.engine().Emit("r", FirstDelta("one"));
  ASSERT_TRUE(reader->Read(&message));
  // A timeout, as the other stream's is seen to pass.
  grpc::ClientContext stuck_context;
  const auto stuck = server.generation().StreamGenerate(&stuck_context, StreamRequest("stuck"));
  server.engine().WaitForRequest("stuck");
  Flood(server.engine(), "stuck");
  EXPECT_EQ(server.engine().WaitForCancel("stuck").code(), absl::StatusCode::kResourceExhausted);
  server.engine().Emit("r", LastDelta("two", 2));
  server.engine().Finish("r", Completed());
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.text_delta(), "two");
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_TRUE(reader->Finish().ok());
  ReadToTheEnd(stuck.get());
}

TEST(SlowReaderTest, AnAnswerThatNobodyReadsIsReset) {
  GrpcTestOptions options = Options(std::chrono::milliseconds(100));
  options.limits.requests_per_client = 1;
  GrpcTestServer server(options);
  grpc::GenericStub stub(server.channel());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const grpc::Slice slice(UnaryRequest("r").SerializeAsString());
  const auto call = stub.PrepareUnaryCall(&context, "/moed.v1.GenerationService/Generate",
                                          grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  call->ReadInitialMetadata(&queue);  // and no more: the answer is not read
  server.engine().WaitForRequest("r");
  server.engine().Emit("r", FirstDelta(std::string(size_t{32} << 20, 'x')));
  server.engine().Emit("r", LastDelta("", 2));
  server.engine().Finish("r", Completed());
  WaitForNoCalls(server);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace moed
