// AdminService and ExpertService over a real connection: what is live, and who may open it.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "moed/v1/admin.grpc.pb.h"
#include "moed/v1/experts.grpc.pb.h"
#include "server/rpc/periodic_streams.h"
#include "tests/server/support/grpc_test_server.h"
#include "tests/server/support/outputs.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr double kForever = 3600;  // an interval after which no test looks

// One open watch.
struct RankWatch {
  RankWatch(v1::AdminService::Stub& stub, double interval_seconds) {
    v1::WatchRanksRequest request;
    request.set_interval_seconds(interval_seconds);
    reader = stub.WatchRanks(&context, request);
  }
  bool Read() { return reader->Read(&message); }
  grpc::Status End() {
    context.TryCancel();
    while (Read()) {
    }
    return reader->Finish();
  }

  grpc::ClientContext context;
  v1::WatchRanksResponse message;
  std::unique_ptr<grpc::ClientReader<v1::WatchRanksResponse>> reader;
};

class AdministrationTest : public ::testing::Test {
 protected:
  GrpcTestServer server_;
  std::unique_ptr<v1::AdminService::Stub> admin_ = v1::AdminService::NewStub(server_.channel());
  std::unique_ptr<v1::ExpertService::Stub> experts_ = v1::ExpertService::NewStub(server_.channel());
};

TEST_F(AdministrationTest, AWatchAnswersAtOnceAndThenEveryInterval) {
  RankWatch seldom(*admin_, kForever);
  ASSERT_TRUE(seldom.Read());
  EXPECT_EQ(seldom.message.ranks().phase(), v1::DAEMON_PHASE_READY);

  RankWatch often(*admin_, 0.1);
  const auto began = std::chrono::steady_clock::now();
  ASSERT_TRUE(often.Read());
  server_.lifecycle().Enter(LifecyclePhase::kDraining);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(often.Read());
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(200));
  EXPECT_EQ(often.message.ranks().phase(), v1::DAEMON_PHASE_DRAINING);
  EXPECT_EQ(often.End().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(seldom.End().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(AdministrationTest, AWatchIsRecordedOnceWhenItEnds) {
  RankWatch watch(*admin_, 0.1);
  ASSERT_TRUE(watch.Read());
  ASSERT_TRUE(watch.Read());
  EXPECT_EQ(server_.observer().num_records(), 0U);
  watch.End();
  const std::vector<RequestRecord> records = server_.observer().WaitForRecords(1);
  EXPECT_STREQ(records[0].method, "WatchRanks");
  EXPECT_EQ(records[0].status.code(), absl::StatusCode::kCancelled);
  EXPECT_GE(records[0].total_seconds, 0.1);
}

TEST_F(AdministrationTest, AWatchEndsWithItsDeadline) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  const auto reader = experts_->WatchExpertLoad(&context, {});
  v1::WatchExpertLoadResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.load().layers_size(), 2);
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(AdministrationTest, OnlySoManyWatchAndAPlaceIsFreeAgainWhenOneEnds) {
  std::vector<std::unique_ptr<RankWatch>> watches;
  for (size_t i = 0; i < PeriodicStreams::kMaxStreams; ++i) {
    watches.push_back(std::make_unique<RankWatch>(*admin_, kForever));
    ASSERT_TRUE(watches.back()->Read()) << i;
  }
  RankWatch refused(*admin_, kForever);
  EXPECT_FALSE(refused.Read());
  const grpc::Status status = refused.reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("64 watchers"));

  watches.back()->End();
  // The client is told of the end a moment before the server has put everything away.
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  bool again = false;
  while (!again && std::chrono::steady_clock::now() < until) {
    RankWatch next(*admin_, kForever);
    again = next.Read();
    next.End();
  }
  EXPECT_TRUE(again);
  for (const auto& watch : watches) watch->context.TryCancel();
}

TEST_F(AdministrationTest, ShutdownEndsEveryWatchUnavailable) {
  RankWatch ranks(*admin_, kForever);
  RankWatch unread(*admin_, 0.1);  // nobody takes its messages
  grpc::ClientContext context;
  const auto load = experts_->WatchExpertLoad(&context, {});
  v1::WatchExpertLoadResponse message;
  ASSERT_TRUE(ranks.Read());
  ASSERT_TRUE(load->Read(&message));
  server_.server().Shutdown(absl::ZeroDuration());
  while (ranks.Read()) {
  }
  while (load->Read(&message)) {
  }
  EXPECT_EQ(ranks.reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(load->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  unread.End();
}

TEST_F(AdministrationTest, ExpertLoadIsWatchedForAsLongAsThereIsAModel) {
  v1::WatchExpertLoadRequest request;
  request.set_interval_seconds(0.1);
  grpc::ClientContext context;
  const auto reader = experts_->WatchExpertLoad(&context, request);
  v1::WatchExpertLoadResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server_.state().Close("the server is shutting down");
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(AdministrationTest, AWatchThatAsksForWhatThereIsNotEndsAtOnce) {
  const auto refused = [&](const v1::WatchExpertLoadRequest& request) {
    grpc::ClientContext context;
    const auto reader = experts_->WatchExpertLoad(&context, request);
    v1::WatchExpertLoadResponse message;
    EXPECT_FALSE(reader->Read(&message));
    return reader->Finish();
  };
  v1::WatchExpertLoadRequest request;
  request.set_model("other");
  EXPECT_EQ(refused(request).error_code(), grpc::StatusCode::NOT_FOUND);
  request.clear_model();
  request.set_window_seconds(0);
  EXPECT_EQ(refused(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  request.clear_window_seconds();
  request.set_interval_seconds(0.01);
  const grpc::Status status = refused(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), StartsWith("interval_seconds must be in [0.1, 3600]"));
  EXPECT_FALSE(status.error_details().empty());
}

TEST_F(AdministrationTest, AnswersWhileLoading) {
  server_.state().Close("loading");
  v1::ListRanksResponse ranks;
  grpc::ClientContext list;
  EXPECT_TRUE(admin_->ListRanks(&list, {}, &ranks).ok());
  EXPECT_EQ(ranks.ranks_size(), 0);
  RankWatch watch(*admin_, kForever);
  EXPECT_TRUE(watch.Read());
  watch.End();
  v1::DrainResponse drained;
  grpc::ClientContext drain;
  EXPECT_TRUE(admin_->Drain(&drain, {}, &drained).ok());
  EXPECT_THAT(server_.admin().drains(), ElementsAre(std::nullopt));
  v1::GetPlacementResponse placement;
  grpc::ClientContext place;
  EXPECT_EQ(experts_->GetPlacement(&place, {}, &placement).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(AdministrationTest, AbortEndsThatCallAndNoOther) {
  grpc::ClientContext ended;
  grpc::ClientContext other;
  const auto reader = server_.generation().StreamGenerate(&ended, StreamRequest("r"));
  const auto untouched = server_.generation().StreamGenerate(&other, StreamRequest("s"));
  server_.engine().WaitForRequest("r");
  server_.engine().WaitForRequest("s");
  v1::AbortRequestRequest request;
  request.set_request_id("r");
  v1::AbortRequestResponse response;
  grpc::ClientContext abort;
  EXPECT_TRUE(admin_->AbortRequest(&abort, request, &response).ok());
  v1::StreamGenerateResponse message;
  EXPECT_FALSE(reader->Read(&message));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(status.error_message(), "the request was ended by an administrator");
  server_.engine().Emit("s", LastDelta("all", 1));
  server_.engine().Finish("s", Completed());
  ASSERT_TRUE(untouched->Read(&message));
  EXPECT_FALSE(untouched->Read(&message));
  EXPECT_TRUE(untouched->Finish().ok());
}

TEST_F(AdministrationTest, MalformedBytesAreTheClientsFault) {
  for (const std::string method :
       {"AdminService/ListRanks", "AdminService/WatchRanks", "AdminService/AbortRequest",
        "AdminService/Drain", "AdminService/SetLogLevel", "ExpertService/GetExpertLoad",
        "ExpertService/GetExpertTokens", "ExpertService/WatchExpertLoad",
        "ExpertService/GetPlacement"}) {
    for (const std::string& bytes : {std::string("\xff\xff\xff"), std::string("\x0a\x7f")}) {
      const grpc::Status status = server_.CallRaw("/moed.v1." + method, bytes);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
          << method << ": " << status.error_message();
    }
  }
  EXPECT_TRUE(server_.admin().drains().empty());
}

}  // namespace
}  // namespace moed
