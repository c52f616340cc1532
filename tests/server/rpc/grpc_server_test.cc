// The services over a real connection, with an engine whose output the test writes.
#include "server/rpc/grpc_server.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <limits>
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

class GrpcServerTest : public ::testing::Test {
 protected:
  GrpcTestServer server_;
};

TEST_F(GrpcServerTest, StreamsDeltasAndThenTheFinish) {
  grpc::ClientContext context;
  const auto reader = server_.generation().StreamGenerate(&context, StreamRequest("r"));
  server_.engine().WaitForRequest("r");
  v1::StreamGenerateResponse message;
  server_.engine().Emit("r", FirstDelta("one"));
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.text_delta(), "one");
  EXPECT_EQ(message.sequence(), 0U);
  server_.engine().Emit("r", LastDelta("two", 2));
  server_.engine().Finish("r", Completed());
  std::string rest;
  uint64_t next = 1;
  while (reader->Read(&message)) {
    rest += message.text_delta();
    EXPECT_EQ(message.sequence(), next++);
  }
  EXPECT_EQ(rest, "two");
  EXPECT_EQ(message.finish().usage().completion_tokens(), 2U);
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, StreamsAllContinuationsInOneSequence) {
  grpc::ClientContext context;
  const auto reader = server_.generation().StreamGenerate(&context, StreamRequest("r"));
  server_.engine().WaitForRequest("r");
  server_.engine().Emit("r", FirstDelta("a"));
  GenerationDelta other = MakeDelta("x");
  other.choice = 1;
  server_.engine().Emit("r", other);
  server_.engine().Emit("r", LastDelta("b", 2));
  server_.engine().Emit("r", LastDelta("y", 2, /*choice=*/1));
  server_.engine().Finish("r", Completed());
  v1::StreamGenerateResponse message;
  std::string texts[2];
  int finishes = 0;
  for (uint64_t next = 0; reader->Read(&message); ++next) {
    EXPECT_EQ(message.sequence(), next);
    EXPECT_EQ(message.has_prompt(), next == 0);
    ASSERT_LT(message.index(), 2U);
    texts[message.index()] += message.text_delta();
    finishes += message.has_finish() ? 1 : 0;
  }
  EXPECT_EQ(texts[0], "ab");
  EXPECT_EQ(texts[1], "xy");
  EXPECT_EQ(finishes, 2);
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, AStreamEndsWhereItsFinishComesAlone) {
  grpc::ClientContext context;
  const auto reader = server_.generation().StreamGenerate(&context, StreamRequest("r"));
  server_.engine().WaitForRequest("r");
  v1::StreamGenerateResponse message;
  server_.engine().Emit("r", LastDelta("all", 1));
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_TRUE(message.has_finish());
  server_.engine().Finish("r", Completed());
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, SendsInitialMetadataWithTheFirstTokenOnly) {
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto reader =
      server_.generation().PrepareAsyncStreamGenerate(&context, StreamRequest("r"), &queue);
  void* tag = nullptr;
  bool ok = false;
  reader->StartCall(&context);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  reader->ReadInitialMetadata(&queue);
  server_.engine().WaitForRequest("r");
  // The connection keeps the order: metadata that was sent before this answer has arrived with it.
  EXPECT_EQ(server_.CallRaw("/moed.v1.ModelService/GetModel", "").error_code(),
            grpc::StatusCode::OK);
  const bool too_soon =
      queue.AsyncNext(&tag, &ok, gpr_now(GPR_CLOCK_MONOTONIC)) == grpc::CompletionQueue::GOT_EVENT;
  EXPECT_FALSE(too_soon) << "metadata before the first token";

  server_.engine().Emit("r", MakeDelta("one"));
  if (!too_soon) {
    ASSERT_TRUE(queue.Next(&tag, &ok));
  }
  EXPECT_EQ(tag, &queue);
  EXPECT_TRUE(ok);
  server_.engine().Finish("r", Completed());
  grpc::Status status;
  reader->Finish(&status, &status);
  context.TryCancel();
  ASSERT_TRUE(queue.Next(&tag, &ok));
}

TEST_F(GrpcServerTest, AFailureBeforeTheFirstTokenIsAStatusWithoutAMessage) {
  grpc::ClientContext context;
  const auto reader = server_.generation().StreamGenerate(&context, StreamRequest("r"));
  server_.engine().WaitForRequest("r");
  server_.engine().Finish("r", EndedWith(absl::UnavailableError("a rank failed")));
  v1::StreamGenerateResponse message;
  EXPECT_FALSE(reader->Read(&message));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "a rank failed");
}

TEST_F(GrpcServerTest, AnswersInOnePiece) {
  std::thread engine([this] {
    server_.engine().WaitForRequest("r");
    server_.engine().Emit("r", FirstDelta("a"));
    server_.engine().Emit("r", LastDelta("b", 2));
    server_.engine().Finish("r", Completed());
  });
  const v1::GenerateRequest request = UnaryRequest("r");
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status status = server_.generation().Generate(&context, request, &response);
  engine.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.continuations(0).text(), "ab");
}

TEST_F(GrpcServerTest, MalformedBytesAreTheClientsFault) {
  for (const char* method :
       {"/moed.v1.GenerationService/Generate", "/moed.v1.GenerationService/StreamGenerate",
        "/moed.v1.TokenizerService/Tokenize", "/moed.v1.TokenizerService/Detokenize",
        "/moed.v1.TokenizerService/RenderChat", "/moed.v1.ModelService/GetModel",
        "/moed.v1.ModelService/ListModels", "/moed.v1.ExpertService/GetExpertLoad",
        "/moed.v1.ExpertService/GetExpertTokens", "/moed.v1.ExpertService/WatchExpertLoad",
        "/moed.v1.ExpertService/GetPlacement", "/moed.v1.AdminService/ListRanks",
        "/moed.v1.AdminService/WatchRanks", "/moed.v1.AdminService/AbortRequest",
        "/moed.v1.AdminService/Drain", "/moed.v1.AdminService/SetLogLevel"}) {
    // An unfinished tag, and a field longer than the message.
    for (const std::string& bytes : {std::string("\xff\xff\xff"), std::string("\x0a\x7f")}) {
      const grpc::Status status = server_.CallRaw(method, bytes);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
          << method << ": " << status.error_message();
    }
  }
  EXPECT_EQ(server_.engine().num_submitted(), 0);
  EXPECT_EQ(server_.observer().num_records(), 32U);
}

TEST_F(GrpcServerTest, BadUtf8IsTheClientsFaultAndNamesTheField) {
  const grpc::Status status = server_.CallRaw("/moed.v1.GenerationService/Generate",
                                              std::string("\x1a\x02\xc3\x28"));  // text: "\xc3\x28"
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "text is not valid UTF-8");
}

TEST_F(GrpcServerTest, ACancelReachesTheEngine) {
  grpc::ClientContext context;
  const auto reader = server_.generation().StreamGenerate(&context, StreamRequest("r"));
  server_.engine().WaitForRequest("r");
  server_.engine().Emit("r", MakeDelta("one"));
  v1::StreamGenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(server_.engine().WaitForCancel("r").code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GrpcServerTest, AUnaryCancelReachesTheEngine) {
  grpc::ClientContext context;
  std::thread canceller([&] {
    server_.engine().WaitForRequest("r");
    context.TryCancel();
  });
  const v1::GenerateRequest request = UnaryRequest("r");
  v1::GenerateResponse response;
  EXPECT_EQ(server_.generation().Generate(&context, request, &response).error_code(),
            grpc::StatusCode::CANCELLED);
  canceller.join();
  EXPECT_EQ(server_.engine().WaitForCancel("r").code(), absl::StatusCode::kCancelled);
}

TEST_F(GrpcServerTest, TheCallsDeadlineIsTheRequests) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
  const auto reader = server_.generation().StreamGenerate(&context, StreamRequest("r"));
  const GenerationRequest request = server_.engine().WaitForRequest("r");
  ASSERT_TRUE(request.deadline.has_value());
  const auto left = *request.deadline - std::chrono::steady_clock::now();
  EXPECT_GT(left, std::chrono::minutes(59));
  // gRPC rounds a long timeout up on the wire.
  EXPECT_LE(left, std::chrono::minutes(61));
  context.TryCancel();
  reader->Finish();
}

TEST_F(GrpcServerTest, ADeadlineBeyondAllClocksIsNone) {
  grpc::ClientContext context;
  context.set_deadline(
      gpr_timespec{std::numeric_limits<int64_t>::max() / 2, 0, GPR_CLOCK_REALTIME});
  const auto reader = server_.generation().StreamGenerate(&context, StreamRequest("r"));
  EXPECT_FALSE(server_.engine().WaitForRequest("r").deadline.has_value());
  context.TryCancel();
  reader->Finish();
}

TEST_F(GrpcServerTest, WithoutADeadlineTheRequestHasNone) {
  grpc::ClientContext context;
  const auto reader = server_.generation().StreamGenerate(&context, StreamRequest("r"));
  EXPECT_FALSE(server_.engine().WaitForRequest("r").deadline.has_value());
  context.TryCancel();
  reader->Finish();
}

TEST_F(GrpcServerTest, SaysHowFarLoadingIsUntilItServes) {
  server_.state().Close("the model is loading (rank 0: expert weights 40 %)");
  for (const char* method :
       {"/moed.v1.GenerationService/Generate", "/moed.v1.TokenizerService/Tokenize",
        "/moed.v1.ModelService/GetModel", "/moed.v1.ExpertService/GetExpertLoad",
        "/moed.v1.ExpertService/GetExpertTokens"}) {
    const grpc::Status status = server_.CallRaw(method, "");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << method;
    EXPECT_THAT(status.error_message(), HasSubstr("expert weights 40 %")) << method;
  }
}

// Asks for the health over a connection of its own.
class HealthCall {
 public:
  explicit HealthCall(const GrpcTestServer& server) : channel_(server.NewChannel()) {
    grpc::GenericStub stub(channel_);
    const grpc::Slice no_bytes;
    call_ = stub.PrepareUnaryCall(&context_, "/grpc.health.v1.Health/Check",
                                  grpc::ByteBuffer(&no_bytes, 1), &queue_);
    call_->StartCall();
    call_->Finish(&response_, &status_, nullptr);
  }
  ~HealthCall() {
    context_.TryCancel();
    Wait(gpr_inf_future(GPR_CLOCK_MONOTONIC));
  }
  // Whether there is an answer, within `seconds` from now.
  bool AnswersWithin(int seconds) {
    return Wait(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                             gpr_time_from_seconds(seconds, GPR_TIMESPAN))) &&
           status_.ok();
  }

 private:
  bool Wait(gpr_timespec deadline) {
    void* tag = nullptr;
    bool ok = false;
    is_over_ =
        is_over_ || queue_.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT;
    return is_over_;
  }

  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  grpc::ByteBuffer response_;
  grpc::Status status_;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> call_;
  bool is_over_ = false;
};

TEST(GrpcServerLimitTest, AConnectionBeyondTheLimitWaitsUntilAnotherCloses) {
  GrpcTestOptions options;
  options.server.max_connections = 1;
  GrpcTestServer server(options);
  auto first = std::make_unique<HealthCall>(server);
  EXPECT_TRUE(first->AnswersWithin(60));
  HealthCall second(server);
  while (server.num_connection_waits() == 0) std::this_thread::yield();
  EXPECT_FALSE(second.AnswersWithin(0));
  first.reset();
  EXPECT_TRUE(second.AnswersWithin(60));
}

TEST_F(GrpcServerTest, ASecondServerFindsThePortTaken) {
  GrpcServerOptions options;
  options.listen = {server_.address()};
  const auto second = GrpcServer::Start(options, server_.Parts());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(second.status().message(),
            absl::StrCat("cannot listen on ", options.listen[0], ": the port is taken"));
}

}  // namespace
}  // namespace moed
