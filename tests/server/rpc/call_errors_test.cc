// What a client's library finds in an error: details in grpc-status-details-bin, and when to come
// back.
#include <grpcpp/grpcpp.h>

#include <map>
#include <string>
#include <utility>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/server/support/grpc_test_server.h"
#include "tests/server/support/outputs.h"

namespace moed {
namespace {

struct CallResult {
  grpc::Status status;
  std::string pushback_ms;  // empty: none
};

CallResult Stream(GrpcTestServer& server, const v1::StreamGenerateRequest& request) {
  grpc::ClientContext context;
  const auto reader = server.generation().StreamGenerate(&context, request);
  v1::StreamGenerateResponse message;
  EXPECT_FALSE(reader->Read(&message));
  CallResult result;
  result.status = reader->Finish();
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  if (pushback != trailers.end()) {
    result.pushback_ms = std::string(pushback->second.data(), pushback->second.size());
  }
  return result;
}

// The one detail of this type; fails where there is none.
template <typename Detail>
Detail DetailOf(const grpc::Status& status) {
  google::rpc::Status rpc_status;
  EXPECT_TRUE(rpc_status.ParseFromString(status.error_details()));
  EXPECT_EQ(rpc_status.code(), status.error_code());
  EXPECT_EQ(rpc_status.message(), status.error_message());
  Detail detail;
  for (const google::protobuf::Any& any : rpc_status.details()) {
    if (any.UnpackTo(&detail)) return detail;
  }
  ADD_FAILURE() << "no " << Detail::descriptor()->full_name() << " in " << status.error_message();
  return detail;
}

using Metadata = std::map<std::string, std::string>;
Metadata MetadataOf(const google::rpc::ErrorInfo& info) {
  return {info.metadata().begin(), info.metadata().end()};
}

TEST(CallErrorsTest, AFieldAtFaultIsNamed) {
  GrpcTestServer server;
  v1::StreamGenerateRequest request = StreamRequest("r");
  request.mutable_sampling()->set_top_p(1.5F);
  const CallResult result = Stream(server, request);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(result.status.error_message(), "sampling.top_p must be in (0, 1], got 1.5");
  const auto detail = DetailOf<google::rpc::BadRequest>(result.status);
  ASSERT_EQ(detail.field_violations_size(), 1);
  EXPECT_EQ(detail.field_violations(0).field(), "sampling.top_p");
  EXPECT_EQ(detail.field_violations(0).description(), "must be in (0, 1], got 1.5");
  EXPECT_EQ(result.pushback_ms, "");
}

TEST(CallErrorsTest, BadUtf8IsABadField) {
  GrpcTestServer server;
  const grpc::Status status =
      server.CallRaw("/moed.v1.GenerationService/Generate", "\x1a\x02\xc3\x28");
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(status).field_violations(0).field(), "text");
}

TEST(CallErrorsTest, APromptThatIsTooLongSaysByHowMuch) {
  GrpcTestServer server;
  v1::StreamGenerateRequest request = StreamRequest("r");
  request.mutable_token_ids()->mutable_ids()->Resize(kTestContext + 1, 3);
  const auto info = DetailOf<google::rpc::ErrorInfo>(Stream(server, request).status);
  EXPECT_EQ(info.reason(), "PROMPT_TOO_LONG");
  EXPECT_EQ(info.domain(), "moed");
  EXPECT_EQ(MetadataOf(info), (Metadata{{"limit", "32"}, {"actual", "33"}}));
}

TEST(CallErrorsTest, AFullQueueSaysWhenToComeBack) {
  GrpcTestServer server;
  server.engine().Refuse(absl::ResourceExhaustedError("the queue is full"));
  const CallResult result = Stream(server, StreamRequest("r"));
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(result.status).reason(), "QUEUE_FULL");
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(result.status).retry_delay().seconds(), 1);
  EXPECT_EQ(result.pushback_ms, "1000");
  const RequestRecord record = server.observer().WaitForRecords(1)[0];
  EXPECT_EQ(record.request_id, "r");
  EXPECT_EQ(record.client, "127.0.0.1");
  EXPECT_EQ(record.reason, "QUEUE_FULL");
  EXPECT_FALSE(record.admitted);
  EXPECT_EQ(server.observer().num_admitted(), 0);
}

TEST(CallErrorsTest, AClientAtItsLimitIsToldSoUntilOneEnds) {
  GrpcTestOptions options;
  options.limits.requests_per_client = 1;
  GrpcTestServer server(options);
  grpc::ClientContext context;
  const auto first = server.generation().StreamGenerate(&context, StreamRequest("first"));
  server.engine().WaitForRequest("first");
  const CallResult second = Stream(server, StreamRequest("second"));
  EXPECT_EQ(second.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto info = DetailOf<google::rpc::ErrorInfo>(second.status);
  EXPECT_EQ(info.reason(), "CLIENT_LIMIT");
  EXPECT_EQ(MetadataOf(info), (Metadata{{"limit", "1"}}));
  EXPECT_NE(second.pushback_ms, "");
  server.engine().Finish("first", EndedWith(absl::AbortedError("aborted")));
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::ABORTED);
  // The place is free once the call is; the client may know of the end a moment sooner.
  while (server.limiter().num_clients() > 0) {
  }
  grpc::ClientContext third_context;
  const auto third = server.generation().StreamGenerate(&third_context, StreamRequest("third"));
  server.engine().WaitForRequest("third");
  third_context.TryCancel();
  third->Finish();
}

TEST(CallErrorsTest, UnavailableSaysWhy) {
  GrpcTestServer server;
  const auto reason_of_refusal = [&](const std::string& id) {
    const grpc::Status status = Stream(server, StreamRequest(id)).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    return DetailOf<google::rpc::ErrorInfo>(status).reason();
  };
  // Ready, and yet the engine is not there: the ranks have just failed.
  server.engine().Refuse(absl::UnavailableError("not available"));
  EXPECT_EQ(reason_of_refusal("a"), "RANK_FAILED");
  server.lifecycle().Enter(LifecyclePhase::kDraining);
  EXPECT_EQ(reason_of_refusal("b"), "DRAINING");
  server.state().Close("the server is shutting down");
  EXPECT_EQ(reason_of_refusal("c"), "DRAINING");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(server.CallRaw("/moed.v1.ModelService/GetModel", ""))
                .reason(),
            "DRAINING");
}

TEST(CallErrorsTest, AStreamThatARankEndsSaysSo) {
  GrpcTestServer server;
  grpc::ClientContext context;
  const auto reader = server.generation().StreamGenerate(&context, StreamRequest("r"));
  server.engine().WaitForRequest("r");
  server.engine().Finish("r", EndedWith(absl::UnavailableError("a rank failed")));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).reason(), "RANK_FAILED");
  EXPECT_EQ(server.observer().WaitForRecords(1)[0].reason, "RANK_FAILED");
}

TEST(CallErrorsTest, ACancelIsRecordedAsOne) {
  GrpcTestServer server;
  grpc::ClientContext context;
  const auto reader = server.generation().StreamGenerate(&context, StreamRequest("r"));
  server.engine().WaitForRequest("r");
  context.TryCancel();
  reader->Finish();
  const RequestRecord record = server.observer().WaitForRecords(1)[0];
  EXPECT_EQ(record.status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(record.client_cancelled);
  EXPECT_FALSE(record.slow_reader);
  EXPECT_TRUE(record.admitted);
  EXPECT_EQ(server.observer().num_admitted(), 1);
}

TEST(CallErrorsTest, ADeadlineIsRecordedAsOneWhoeverNoticesItFirst) {
  GrpcTestServer server;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  const auto reader = server.generation().StreamGenerate(&context, StreamRequest("r"));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  const RequestRecord record = server.observer().WaitForRecords(1)[0];
  EXPECT_EQ(record.status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(CallErrorsTest, AMessageAtTheLimitPassesAndOneByteMoreDoesNot) {
  constexpr size_t kLimit = 1 << 16;
  GrpcTestOptions options;
  options.limits.message_bytes = kLimit;
  GrpcTestServer server(options);
  v1::StreamGenerateRequest request = StreamRequest("r");
  request.set_text(std::string(kLimit - 100, 'x'));
  request.set_text(std::string(2 * kLimit - 100 - request.ByteSizeLong(), 'x'));
  ASSERT_EQ(request.ByteSizeLong(), kLimit);
  // What arrives is too long for the context.
  EXPECT_EQ(Stream(server, request).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request.mutable_text()->push_back('x');
  const grpc::Status status = Stream(server, request).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  EXPECT_EQ(info.reason(), "MESSAGE_TOO_LARGE");
  EXPECT_EQ(MetadataOf(info), (Metadata{{"limit", "65536"}, {"actual", "65537"}}));
  // Far beyond, the transport refuses it by itself.
  request.mutable_text()->resize(3 * kLimit, 'x');
  EXPECT_EQ(Stream(server, request).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// A small message that would be a large one: it is not even unpacked.
TEST(CallErrorsTest, CompressedMessagesAreRefused) {
  GrpcTestServer server;
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ClientContext context;
    context.set_compression_algorithm(algorithm);
    v1::GenerateResponse response;
    const grpc::Status status =
        server.generation().Generate(&context, UnaryRequest(std::string(1000, 'r')), &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << status.error_message();
  }
  EXPECT_EQ(server.observer().num_records(), 0U);
}

}  // namespace
}  // namespace moed
