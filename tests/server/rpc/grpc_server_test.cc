// The services over a real connection, with an engine whose output the test writes.
#include "server/rpc/grpc_server.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "moed/v1/generation.grpc.pb.h"
#include "moed/v1/model.grpc.pb.h"
#include "tests/server/support/fake_engine.h"
#include "tests/server/support/outputs.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

class GrpcServerTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(size_t{1} << 20); }

  void Start(size_t stream_buffer_bytes) {
    if (server_ != nullptr) server_->Shutdown(absl::ZeroDuration());
    GrpcServerOptions options;
    options.listen = {"127.0.0.1:0"};
    options.stream_buffer_bytes = stream_buffer_bytes;
    auto server = GrpcServer::Start(options, &state_, &validator_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->ports()[0]),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::GenerationService::NewStub(channel_);
    engine_ = std::make_shared<FakeEngine>();
    state_.SetServing({MakeServedModel(), engine_});
  }

  void TearDown() override {
    engine_->Shutdown(absl::UnavailableError("test over"));
    server_->Shutdown(absl::ZeroDuration());
  }

  static v1::StreamGenerateRequest Request(const std::string& id) {
    v1::StreamGenerateRequest request;
    request.set_request_id(id);
    request.set_text("ab");
    return request;
  }

  // Sends `bytes` to a unary method and gives its status.
  grpc::Status CallRaw(const std::string& method, const std::string& bytes) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice slice(bytes);
    auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }

  ServingState state_;
  RequestValidator validator_{{}, [] { return 7; }};
  std::shared_ptr<FakeEngine> engine_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

TEST_F(GrpcServerTest, StreamsDeltasAndThenTheFinish) {
  grpc::ClientContext context;
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  engine_->WaitForRequest("r");
  v1::StreamGenerateResponse message;
  engine_->Emit("r", FirstDelta("one"));
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.text_delta(), "one");
  EXPECT_EQ(message.sequence(), 0U);
  engine_->Emit("r", LastDelta("two", 2));
  engine_->Finish("r", Completed());
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
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  engine_->WaitForRequest("r");
  engine_->Emit("r", FirstDelta("a"));
  GenerationDelta other = MakeDelta("x");
  other.choice = 1;
  engine_->Emit("r", other);
  engine_->Emit("r", LastDelta("b", 2));
  engine_->Emit("r", LastDelta("y", 2, /*choice=*/1));
  engine_->Finish("r", Completed());
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
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  engine_->WaitForRequest("r");
  v1::StreamGenerateResponse message;
  engine_->Emit("r", LastDelta("all", 1));
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_TRUE(message.has_finish());
  engine_->Finish("r", Completed());
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, SendsInitialMetadataWithTheFirstTokenOnly) {
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto reader = stub_->PrepareAsyncStreamGenerate(&context, Request("r"), &queue);
  void* tag = nullptr;
  bool ok = false;
  reader->StartCall(&context);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  reader->ReadInitialMetadata(&queue);
  engine_->WaitForRequest("r");
  // The connection keeps the order: metadata that was sent before this answer has arrived with it.
  EXPECT_EQ(CallRaw("/moed.v1.ModelService/GetModel", "").error_code(), grpc::StatusCode::OK);
  const bool too_soon =
      queue.AsyncNext(&tag, &ok, gpr_now(GPR_CLOCK_MONOTONIC)) == grpc::CompletionQueue::GOT_EVENT;
  EXPECT_FALSE(too_soon) << "metadata before the first token";

  engine_->Emit("r", MakeDelta("one"));
  if (!too_soon) ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(tag, &queue);
  EXPECT_TRUE(ok);
  engine_->Finish("r", Completed());
  grpc::Status status;
  reader->Finish(&status, &status);
  context.TryCancel();
  ASSERT_TRUE(queue.Next(&tag, &ok));
}

TEST_F(GrpcServerTest, AFailureBeforeTheFirstTokenIsAStatusWithoutAMessage) {
  grpc::ClientContext context;
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  engine_->WaitForRequest("r");
  engine_->Finish("r", EndedWith(absl::UnavailableError("a rank failed")));
  v1::StreamGenerateResponse message;
  EXPECT_FALSE(reader->Read(&message));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "a rank failed");
}

TEST_F(GrpcServerTest, AnswersInOnePiece) {
  std::thread engine([this] {
    engine_->WaitForRequest("r");
    engine_->Emit("r", FirstDelta("a"));
    engine_->Emit("r", LastDelta("b", 2));
    engine_->Finish("r", Completed());
  });
  v1::GenerateRequest request;
  request.set_request_id("r");
  request.set_text("ab");
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status status = stub_->Generate(&context, request, &response);
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
        "/moed.v1.ExpertService/GetExpertTokens"}) {
    // An unfinished tag, and a field longer than the message.
    for (const std::string& bytes : {std::string("\xff\xff\xff"), std::string("\x0a\x7f")}) {
      const grpc::Status status = CallRaw(method, bytes);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
          << method << ": " << status.error_message();
    }
  }
  EXPECT_EQ(engine_->num_submitted(), 0);
}

TEST_F(GrpcServerTest, BadUtf8IsTheClientsFaultAndNamesTheField) {
  const grpc::Status status = CallRaw("/moed.v1.GenerationService/Generate",
                                      std::string("\x1a\x02\xc3\x28"));  // text: "\xc3\x28"
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "text is not valid UTF-8");
}

TEST_F(GrpcServerTest, RefusesAMessageBeyondTheLimitOnly) {
  constexpr size_t kLimit = 4 << 20;
  v1::GenerateRequest request;
  request.set_text(std::string(kLimit, 'x'));
  const size_t framing = request.ByteSizeLong() - kLimit;
  for (const size_t beyond : {0, 1}) {
    request.set_text(std::string(kLimit - framing + beyond, 'x'));
    ASSERT_EQ(request.ByteSizeLong(), kLimit + beyond);
    grpc::ClientContext context;
    v1::GenerateResponse response;
    // What arrives is too long for the context.
    EXPECT_EQ(
        stub_->Generate(&context, request, &response).error_code(),
        beyond == 0 ? grpc::StatusCode::INVALID_ARGUMENT : grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
}

TEST_F(GrpcServerTest, TellsWhenToComeBackWhereTheQueueIsFull) {
  engine_->Refuse(absl::ResourceExhaustedError("the queue is full"));
  grpc::ClientContext context;
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  v1::StreamGenerateResponse message;
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto& trailers = context.GetServerTrailingMetadata();
  ASSERT_EQ(trailers.count("grpc-retry-pushback-ms"), 1U);
}

TEST_F(GrpcServerTest, ACancelReachesTheEngine) {
  grpc::ClientContext context;
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  engine_->WaitForRequest("r");
  engine_->Emit("r", MakeDelta("one"));
  v1::StreamGenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(engine_->WaitForCancel("r").code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GrpcServerTest, AUnaryCancelReachesTheEngine) {
  grpc::ClientContext context;
  std::thread canceller([&] {
    engine_->WaitForRequest("r");
    context.TryCancel();
  });
  v1::GenerateRequest request;
  request.set_request_id("r");
  request.set_text("ab");
  v1::GenerateResponse response;
  EXPECT_EQ(stub_->Generate(&context, request, &response).error_code(),
            grpc::StatusCode::CANCELLED);
  canceller.join();
  EXPECT_EQ(engine_->WaitForCancel("r").code(), absl::StatusCode::kCancelled);
}

TEST_F(GrpcServerTest, TheCallsDeadlineIsTheRequests) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  const GenerationRequest request = engine_->WaitForRequest("r");
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
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  EXPECT_FALSE(engine_->WaitForRequest("r").deadline.has_value());
  context.TryCancel();
  reader->Finish();
}

TEST_F(GrpcServerTest, WithoutADeadlineTheRequestHasNone) {
  grpc::ClientContext context;
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  EXPECT_FALSE(engine_->WaitForRequest("r").deadline.has_value());
  context.TryCancel();
  reader->Finish();
}

TEST_F(GrpcServerTest, ASlowReaderIsCutOff) {
  Start(/*stream_buffer_bytes=*/1 << 16);
  grpc::ClientContext context;
  const auto reader = stub_->StreamGenerate(&context, Request("r"));
  engine_->WaitForRequest("r");
  // Nobody reads: the connection takes what its windows hold, then the outbox fills.
  const std::string text(1 << 14, 'x');
  int accepted = 0;
  while (engine_->Emit("r", MakeDelta(text))) ASSERT_LT(++accepted, 100000);
  engine_->Finish("r", EndedWith(absl::ResourceExhaustedError("cut off")));
  v1::StreamGenerateResponse message;
  while (reader->Read(&message)) EXPECT_FALSE(message.has_finish());
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("SLOW_READER"));
}

TEST_F(GrpcServerTest, SaysHowFarLoadingIsUntilItServes) {
  state_.Close("the model is loading (rank 0: expert weights 40 %)");
  for (const char* method :
       {"/moed.v1.GenerationService/Generate", "/moed.v1.TokenizerService/Tokenize",
        "/moed.v1.ModelService/GetModel", "/moed.v1.ExpertService/GetExpertLoad",
        "/moed.v1.ExpertService/GetExpertTokens"}) {
    const grpc::Status status = CallRaw(method, "");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << method;
    EXPECT_THAT(status.error_message(), HasSubstr("expert weights 40 %")) << method;
  }
}

TEST_F(GrpcServerTest, ASecondServerFindsThePortTaken) {
  GrpcServerOptions options;
  options.listen = {"127.0.0.1:" + std::to_string(server_->ports()[0])};
  const auto second = GrpcServer::Start(options, &state_, &validator_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(options.listen[0]));
}

}  // namespace
}  // namespace moed
