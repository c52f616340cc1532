#include "server/handlers/admin_handler.h"

#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/handlers/watch_interval.h"
#include "tests/server/support/fake_admin_control.h"
#include "tests/server/support/fake_engine.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// Two ranks: the first has computed for three seconds, and holds 1 to 5 bytes of each kind.
class AdminHandlerTest : public ::testing::Test {
 protected:
  AdminHandlerTest() : engine_(std::make_shared<FakeEngine>()) {
    auto model = MakeServedModel();
    model->num_ranks = 2;
    model->ranks.resize(2);
    model->ranks[0].memory_bytes = {1, 2, 3, 4, 5};
    auto ledger = RoutingLedger::Create(
        {.num_ranks = 2, .num_layers = 2, .num_experts = 4, .experts_per_token = 2},
        std::chrono::steady_clock::now());
    EXPECT_TRUE(ledger.ok()) << ledger.status();
    std::vector<RankResult> results(2);
    for (RankResult& result : results) result.expert_counts = {0, 0, 0, 0, 0, 0, 0, 0};
    results[0].expert_counts[2] = 7;
    results[0].compute_seconds = 3;
    results[0].collective_wait_seconds = 0.5;
    results[0].exchange_bytes_sent = 11;
    results[0].exchange_bytes_received = 12;
    EXPECT_TRUE((*ledger)->Add(results, std::chrono::steady_clock::now()).ok());
    engine_->SetRouting(*std::move(ledger));
    SetFault(absl::OkStatus());
    serving_ = {std::move(model), engine_};
    lifecycle_.Enter(LifecyclePhase::kReady);
  }

  void SetFault(absl::Status fault) {
    EngineStats stats;
    stats.requests_waiting = 4;
    stats.requests_running = 3;
    stats.total_kv_blocks = {10, 20};
    stats.free_kv_blocks = {9, 8};
    stats.cached_kv_blocks = {7, 6};
    stats.fault = std::move(fault);
    engine_->SetStats(std::move(stats));
  }

  std::shared_ptr<FakeEngine> engine_;
  Serving serving_;
  Lifecycle lifecycle_;
  FakeAdminControl control_;
};

TEST_F(AdminHandlerTest, TellsWhatEachRankHoldsAndHasDone) {
  const v1::ListRanksResponse response = ListRanks(lifecycle_.Snapshot(), &serving_);
  EXPECT_EQ(response.phase(), v1::DAEMON_PHASE_READY);
  EXPECT_EQ(response.load_fraction(), 1);
  EXPECT_EQ(response.waiting(), 4U);
  EXPECT_EQ(response.running(), 3U);
  ASSERT_EQ(response.ranks_size(), 2);
  const v1::RankStatus& first = response.ranks(0);
  EXPECT_EQ(first.rank(), 0U);
  EXPECT_TRUE(first.up());
  EXPECT_EQ(first.device(), "none");
  std::vector<std::string> memory;
  for (const v1::MemoryUse& use : first.memory()) {
    memory.push_back(use.kind() + "=" + std::to_string(use.bytes()));
  }
  EXPECT_THAT(memory,
              ElementsAre("weights=1", "kv_cache=2", "activations=3", "exchange=4", "workspace=5"));
  EXPECT_EQ(first.total_kv_blocks(), 10U);
  EXPECT_EQ(first.free_kv_blocks(), 9U);
  EXPECT_EQ(first.cached_kv_blocks(), 7U);
  EXPECT_EQ(first.steps(), 1U);
  EXPECT_EQ(first.compute_seconds(), 3);
  EXPECT_EQ(first.collective_wait_seconds(), 0.5);
  EXPECT_EQ(first.routed_pairs(), 7U);
  EXPECT_EQ(first.exchange_bytes_sent(), 11U);
  EXPECT_EQ(first.exchange_bytes_received(), 12U);
  EXPECT_EQ(response.ranks(1).rank(), 1U);
  EXPECT_EQ(response.ranks(1).free_kv_blocks(), 8U);
  EXPECT_EQ(response.ranks(1).compute_seconds(), 0);
}

TEST_F(AdminHandlerTest, TellsHowFarEachRankHasLoaded) {
  Lifecycle lifecycle;
  EXPECT_THAT(ListRanks(lifecycle.Snapshot(), nullptr).ranks(), IsEmpty());
  lifecycle.ReportLoad({.rank = 1, .phase = "expert weights", .fraction = 0.25});
  // Rank 0 has not begun.
  const v1::ListRanksResponse response = ListRanks(lifecycle.Snapshot(), nullptr);
  EXPECT_EQ(response.phase(), v1::DAEMON_PHASE_LOADING);
  ASSERT_EQ(response.ranks_size(), 1);
  EXPECT_EQ(response.ranks(0).rank(), 1U);
  EXPECT_FALSE(response.ranks(0).up());
  EXPECT_EQ(response.ranks(0).load_phase(), "expert weights");
  EXPECT_EQ(response.ranks(0).load_fraction(), 0.25);
}

TEST_F(AdminHandlerTest, ARankIsUpUntilTheGroupBreaks) {
  lifecycle_.Enter(LifecyclePhase::kDraining);
  const v1::ListRanksResponse draining = ListRanks(lifecycle_.Snapshot(), &serving_);
  EXPECT_EQ(draining.phase(), v1::DAEMON_PHASE_DRAINING);
  EXPECT_TRUE(draining.ranks(1).up());
  SetFault(absl::UnavailableError("rank 1 hangs"));
  EXPECT_FALSE(ListRanks(lifecycle_.Snapshot(), &serving_).ranks(0).up());
  SetFault(absl::OkStatus());
  lifecycle_.Enter(LifecyclePhase::kFailed);
  const v1::ListRanksResponse failed = ListRanks(lifecycle_.Snapshot(), &serving_);
  EXPECT_EQ(failed.phase(), v1::DAEMON_PHASE_FAILED);
  EXPECT_FALSE(failed.ranks(0).up());
}

TEST_F(AdminHandlerTest, AbortEndsTheRequestWithTheReasonItsCallGets) {
  GenerationRequest live;
  live.request_id = "r";
  class Sink : public GenerationSink {
    bool OnDelta(GenerationDelta) override { return true; }
    void OnFinish(const GenerationFinish&) override {}
  };
  ASSERT_TRUE(engine_->Submit(std::move(live), std::make_shared<Sink>()).ok());
  v1::AbortRequestRequest request;
  request.set_request_id("another");
  EXPECT_TRUE(absl::IsNotFound(AbortRequest(request, &serving_).status()));
  request.set_request_id("r");
  EXPECT_TRUE(AbortRequest(request, &serving_).ok());
  EXPECT_EQ(engine_->WaitForCancel("r"),
            absl::AbortedError("the request was ended by an administrator"));
  EXPECT_TRUE(absl::IsNotFound(AbortRequest(request, &serving_).status()));
}

TEST_F(AdminHandlerTest, AbortWithoutAnIdOrAnEngineMeetsNothing) {
  EXPECT_TRUE(absl::IsInvalidArgument(AbortRequest({}, &serving_).status()));
  v1::AbortRequestRequest request;
  request.set_request_id("r");
  EXPECT_TRUE(absl::IsNotFound(AbortRequest(request, nullptr).status()));
}

TEST_F(AdminHandlerTest, DrainTellsWhatMayFinish) {
  const auto response = Drain({}, &serving_, control_);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->running(), 3U);
  EXPECT_EQ(response->waiting(), 4U);
  EXPECT_THAT(control_.drains(), ElementsAre(std::nullopt));
}

TEST_F(AdminHandlerTest, DrainTakesATimeWhileLoadingToo) {
  v1::DrainRequest request;
  request.set_timeout_seconds(0.25);
  EXPECT_TRUE(Drain(request, nullptr, control_).ok());
  request.set_timeout_seconds(86400);
  EXPECT_TRUE(Drain(request, nullptr, control_).ok());
  EXPECT_THAT(control_.drains(),
              ElementsAre(std::chrono::milliseconds(250), std::chrono::hours(24)));
}

TEST_F(AdminHandlerTest, ATimeOutOfRangeDrainsNothing) {
  v1::DrainRequest request;
  for (const double seconds : {-0.001, 86400.1, std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity()}) {
    request.set_timeout_seconds(seconds);
    const absl::Status status = Drain(request, &serving_, control_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << seconds;
    EXPECT_THAT(std::string(status.message()),
                StartsWith("timeout_seconds must be in [0, 86400], got"));
  }
  EXPECT_THAT(control_.drains(), IsEmpty());
}

TEST_F(AdminHandlerTest, PassesTheLogLevelOn) {
  v1::SetLogLevelRequest request;
  request.set_level("loud");
  EXPECT_TRUE(absl::IsInvalidArgument(SetLogLevel(request, control_).status()));
  request.set_level("debug");
  EXPECT_TRUE(SetLogLevel(request, control_).ok());
  EXPECT_EQ(control_.level(), "debug");
}

TEST(WatchIntervalTest, IsASecondUnlessAskedOtherwise) {
  v1::WatchRanksRequest request;
  EXPECT_EQ(*WatchInterval(request), std::chrono::seconds(1));
  request.set_interval_seconds(0.1);
  EXPECT_EQ(*WatchInterval(request), std::chrono::milliseconds(100));
  request.set_interval_seconds(3600);
  EXPECT_EQ(*WatchInterval(request), std::chrono::hours(1));
}

TEST(WatchIntervalTest, RefusesOneOutOfRange) {
  v1::WatchRanksRequest request;
  for (const double seconds : {0.0999, 0.0, -1.0, 3600.1, std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity()}) {
    request.set_interval_seconds(seconds);
    const absl::Status status = WatchInterval(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << seconds;
    EXPECT_THAT(std::string(status.message()),
                StartsWith("interval_seconds must be in [0.1, 3600], got"));
  }
}

}  // namespace
}  // namespace moed
