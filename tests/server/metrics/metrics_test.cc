#include "server/metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/metrics/catalog.h"
#include "server/metrics/expert_collector.h"
#include "tests/server/support/fake_engine.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

using Samples = std::map<std::string, double>;

// Series and their values.
Samples Parse(const std::string& page) {
  Samples samples;
  for (const absl::string_view line : absl::StrSplit(page, '\n', absl::SkipEmpty())) {
    if (line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    double value = 0;
    EXPECT_TRUE(absl::SimpleAtod(line.substr(space + 1), &value)) << line;
    EXPECT_TRUE(samples.emplace(std::string(line.substr(0, space)), value).second)
        << line << " is there twice";
  }
  return samples;
}

// The names after "# TYPE", with the type.
std::map<std::string, std::string> Types(const std::string& page) {
  std::map<std::string, std::string> types;
  for (absl::string_view line : absl::StrSplit(page, '\n')) {
    if (!absl::ConsumePrefix(&line, "# TYPE ")) continue;
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    EXPECT_TRUE(types.emplace(words[0], words[1]).second) << words[0] << " is there twice";
  }
  return types;
}

class MetricsTest : public ::testing::Test {
 protected:
  void Serve(int num_layers = 2, int num_experts = 4) {
    model_->config.num_layers = num_layers;
    model_->config.num_experts = num_experts;
    model_->num_ranks = 2;
    model_->ranks.resize(2);
    model_->ranks[1].memory_bytes = {100, 200, 300, 400, 500};
    model_->placement = ExpertPlacement::Even(num_layers, num_experts, 2);
    engine_->SetRouting(RoutingLedger::Create({.num_ranks = 2,
                                               .num_layers = num_layers,
                                               .num_experts = num_experts,
                                               .experts_per_token = 2},
                                              now_)
                            .value());
    EngineStats stats;
    stats.total_kv_blocks = {8, 8};
    stats.free_kv_blocks = {2, 6};
    stats.cached_kv_blocks = {1, 6};
    engine_->SetStats(stats);
    lifecycle_.ReportLoad({0, "expert weights", 0.5});
    lifecycle_.ReportLoad({1, "expert weights", 0.25});
    lifecycle_.Enter(LifecyclePhase::kReady);
    state_.SetServing({model_, engine_});
  }
  void Route(const std::vector<int64_t>& first_rank, const std::vector<int64_t>& second_rank) {
    std::vector<RankResult> results(2);
    results[0].expert_counts = first_rank;
    results[1].expert_counts = second_rank;
    results[1].compute_seconds = 1.5;
    results[1].collective_wait_seconds = 0.5;
    results[0].exchange_bytes_sent = 10;
    results[1].exchange_bytes_received = 10;
    ASSERT_EQ(routing_mutable().Add(results, now_), absl::OkStatus());
  }
  RoutingLedger& routing_mutable() { return const_cast<RoutingLedger&>(engine_->routing()); }
  Samples Page() { return Parse(metrics_.Page()); }
  Samples ExpertsPage() { return Parse(metrics_.ExpertsPage()); }

  TimePoint now_{std::chrono::hours(1)};
  std::shared_ptr<ServedModel> model_ = MakeServedModel();
  std::shared_ptr<FakeEngine> engine_ = std::make_shared<FakeEngine>();
  ServingState state_;
  Lifecycle lifecycle_;
  Metrics metrics_{{.state = &state_, .lifecycle = &lifecycle_, .version = "1.2.3", .now = [this] {
                      return now_;
                    }}};
};

RequestRecord Ended(absl::Status status, const char* finish_reason = "") {
  RequestRecord record;
  record.method = "Generate";
  record.admitted = true;
  record.status = std::move(status);
  record.finish_reason = finish_reason;
  return record;
}

TEST_F(MetricsTest, EveryMetricOfTheCatalogIsOnItsPageAndNoOther) {
  Serve();
  metrics_.SetCertificateExpiry(1);
  metrics_.OnEnd(Ended(absl::OkStatus(), "stop"));
  RequestRecord refused = Ended(absl::UnavailableError("no"));
  refused.admitted = false;
  metrics_.OnEnd(refused);
  std::map<MetricPage, std::map<std::string, std::string>> expected;
  for (const MetricDefinition& definition : MetricCatalog()) {
    expected[definition.page][definition.name] = MetricTypeName(definition.type);
  }
  EXPECT_EQ(Types(metrics_.Page()), expected[MetricPage::kMain]);
  EXPECT_EQ(Types(metrics_.ExpertsPage()), expected[MetricPage::kExperts]);
}

TEST_F(MetricsTest, WhileLoadingThereIsHowFarItIs) {
  lifecycle_.ReportLoad({0, "expert weights", 0.5});
  const Samples page = Page();
  EXPECT_THAT(page, Contains(Pair("moed_ready", 0)));
  EXPECT_THAT(page, Contains(Pair("moed_lifecycle_phase{phase=\"loading\"}", 1)));
  EXPECT_THAT(page,
              Contains(Pair("moed_load_progress_ratio{rank=\"0\",phase=\"expert_weights\"}", 0.5)));
  EXPECT_THAT(page, Contains(Pair("moed_rank_up{rank=\"0\"}", 0)));
  EXPECT_THAT(page, Contains(Pair("moed_build_info{version=\"1.2.3\"}", 1)));
  EXPECT_THAT(page, Not(Contains(Key("moed_requests_waiting"))));
  EXPECT_EQ(metrics_.ExpertsPage(), "");
}

TEST_F(MetricsTest, EngineMemoryAndRanks) {
  Serve();
  EngineStats stats = engine_->Stats();
  stats.requests_waiting = 3;
  stats.requests_running = 5;
  stats.counters.prompt_tokens = 70;
  stats.counters.cached_tokens = 16;
  stats.counters.recomputed_tokens = 4;
  stats.counters.preemptions = 2;
  stats.steps.Add(StepPhase::kDecode, std::chrono::milliseconds(2), 5);
  stats.steps.Add(StepPhase::kMixed, std::chrono::milliseconds(40), 100);
  stats.turn_age = std::chrono::milliseconds(1500);
  engine_->SetStats(stats);
  Route({1, 0, 0, 0, 0, 0, 1, 0}, {0, 0, 2, 0, 0, 2, 0, 0});

  const Samples page = Page();
  EXPECT_EQ(page.at("moed_ready"), 1);
  EXPECT_EQ(page.at("moed_requests_waiting"), 3);
  EXPECT_EQ(page.at("moed_requests_running"), 5);
  EXPECT_EQ(page.at("moed_prompt_tokens_total"), 70);
  EXPECT_EQ(page.at("moed_cached_tokens_total"), 16);
  EXPECT_EQ(page.at("moed_recomputed_tokens_total"), 4);
  EXPECT_EQ(page.at("moed_preemptions_total"), 2);
  EXPECT_EQ(page.at("moed_engine_turn_age_seconds"), 1.5);
  EXPECT_EQ(page.at("moed_step_duration_seconds_bucket{phase=\"decode\",le=\"0.001\"}"), 0);
  EXPECT_EQ(page.at("moed_step_duration_seconds_bucket{phase=\"decode\",le=\"0.002\"}"), 1);
  EXPECT_EQ(page.at("moed_step_duration_seconds_count{phase=\"prefill\"}"), 0);
  EXPECT_EQ(page.at("moed_step_duration_seconds_sum{phase=\"mixed\"}"), 0.04);
  EXPECT_EQ(page.at("moed_step_tokens_sum"), 105);
  EXPECT_EQ(page.at("moed_step_tokens_bucket{le=\"+Inf\"}"), 2);
  EXPECT_EQ(page.at("moed_kv_cache_usage_ratio"), 0.5);
  EXPECT_EQ(page.at("moed_kv_blocks{rank=\"0\",state=\"used\"}"), 6);
  EXPECT_EQ(page.at("moed_kv_blocks{rank=\"0\",state=\"cached\"}"), 1);
  EXPECT_EQ(page.at("moed_kv_blocks{rank=\"0\",state=\"free\"}"), 1);
  EXPECT_EQ(page.at("moed_device_memory_bytes{rank=\"1\",kind=\"kv_cache\"}"), 200);
  EXPECT_EQ(page.at("moed_rank_up{rank=\"1\"}"), 1);
  EXPECT_EQ(page.at("moed_rank_steps_total{rank=\"1\"}"), 1);
  EXPECT_EQ(page.at("moed_rank_compute_seconds_total{rank=\"1\"}"), 1.5);
  EXPECT_EQ(page.at("moed_rank_collective_wait_seconds_total{rank=\"1\"}"), 0.5);
  EXPECT_EQ(page.at("moed_rank_routed_tokens_total{rank=\"1\"}"), 4);
  EXPECT_EQ(page.at("moed_exchange_bytes_total{rank=\"0\",direction=\"sent\"}"), 10);
  EXPECT_EQ(page.at("moed_exchange_bytes_total{rank=\"1\",direction=\"received\"}"), 10);
  EXPECT_EQ(page.at("moed_model_info{model=\"test-model\",architecture=\"MixtralForCausalLM\","
                    "dtype=\"float32\",layers=\"2\",experts=\"4\",experts_per_token=\"2\","
                    "ranks=\"2\"}"),
            1);
}

TEST_F(MetricsTest, AFailedRankTakesAllDown) {
  Serve();
  EngineStats stats = engine_->Stats();
  stats.fault = absl::UnavailableError("rank 1: no progress");
  engine_->SetStats(stats);
  EXPECT_EQ(Page().at("moed_rank_up{rank=\"0\"}"), 0);
  EXPECT_EQ(Page().at("moed_rank_up{rank=\"1\"}"), 0);
}

TEST_F(MetricsTest, ADrainIsToldFromAFailure) {
  Serve();
  lifecycle_.Enter(LifecyclePhase::kDraining);
  const Samples page = Page();
  EXPECT_EQ(page.at("moed_ready"), 0);
  EXPECT_EQ(page.at("moed_lifecycle_phase{phase=\"draining\"}"), 1);
  EXPECT_EQ(page.at("moed_lifecycle_phase{phase=\"ready\"}"), 0);
  EXPECT_EQ(page.at("moed_rank_up{rank=\"0\"}"), 1);
}

TEST_F(MetricsTest, RequestsByCodeAndFinishReason) {
  EXPECT_EQ(Page().at("moed_requests_total{code=\"OK\",finish_reason=\"length\"}"), 0);
  for (int i = 0; i < 3; ++i) metrics_.OnAdmitted();
  RequestRecord record = Ended(absl::OkStatus(), "length");
  record.total_seconds = 2;
  record.queue_seconds = 0.004;
  metrics_.OnEnd(record);
  record = Ended(absl::CancelledError("gone"));
  record.client_cancelled = true;
  metrics_.OnEnd(record);
  record = Ended(absl::ResourceExhaustedError("slow"));
  record.slow_reader = true;
  metrics_.OnEnd(record);

  const Samples page = Page();
  EXPECT_EQ(page.at("moed_requests_accepted_total"), 3);
  EXPECT_EQ(page.at("moed_requests_total{code=\"OK\",finish_reason=\"length\"}"), 1);
  EXPECT_EQ(page.at("moed_requests_total{code=\"CANCELLED\",finish_reason=\"aborted\"}"), 1);
  EXPECT_EQ(page.at("moed_requests_total{code=\"RESOURCE_EXHAUSTED\",finish_reason=\"aborted\"}"),
            1);
  EXPECT_EQ(page.at("moed_client_cancellations_total"), 1);
  EXPECT_EQ(page.at("moed_slow_reader_evictions_total"), 1);
  EXPECT_EQ(page.at("moed_request_duration_seconds_count"), 3);
  EXPECT_EQ(page.at("moed_request_duration_seconds_sum"), 2);
  EXPECT_EQ(page.at("moed_queue_duration_seconds_count"), 1);
  EXPECT_EQ(page.at("moed_queue_duration_seconds_bucket{le=\"0.005\"}"), 1);
  EXPECT_EQ(page.at("moed_calls_total{code=\"OK\",method=\"Generate\"}"), 1);
  EXPECT_THAT(page, Not(Contains(Key(HasSubstr("moed_requests_rejected_total")))));
}

TEST_F(MetricsTest, RejectedRequestsByReasonOrElseByCode) {
  RequestRecord record;
  record.method = "StreamGenerate";
  record.status = absl::ResourceExhaustedError("full");
  record.reason = "QUEUE_FULL";
  metrics_.OnEnd(record);
  record.status = absl::InvalidArgumentError("no");
  record.reason = "";
  metrics_.OnEnd(record);
  record.method = "Tokenize";
  metrics_.OnEnd(record);

  const Samples page = Page();
  EXPECT_EQ(page.at("moed_requests_rejected_total{reason=\"queue_full\"}"), 1);
  EXPECT_EQ(page.at("moed_requests_rejected_total{reason=\"invalid_argument\"}"), 1);
  EXPECT_EQ(page.at("moed_calls_total{code=\"INVALID_ARGUMENT\",method=\"Tokenize\"}"), 1);
  EXPECT_EQ(page.at("moed_requests_total{code=\"OK\",finish_reason=\"stop\"}"), 0);
  EXPECT_EQ(page.at("moed_request_duration_seconds_count"), 0);
}

TEST_F(MetricsTest, TokensAndTheirTimes) {
  metrics_.OnFirstToken(std::chrono::milliseconds(60));
  metrics_.OnTokens(1);
  metrics_.OnInterToken(std::chrono::milliseconds(5), 3);
  metrics_.OnTokens(3);
  const Samples page = Page();
  EXPECT_EQ(page.at("moed_generation_tokens_total"), 4);
  EXPECT_EQ(page.at("moed_time_to_first_token_seconds_bucket{le=\"0.04\"}"), 0);
  EXPECT_EQ(page.at("moed_time_to_first_token_seconds_bucket{le=\"0.06\"}"), 1);
  EXPECT_EQ(page.at("moed_inter_token_latency_seconds_bucket{le=\"0.004\"}"), 0);
  EXPECT_EQ(page.at("moed_inter_token_latency_seconds_bucket{le=\"0.006\"}"), 3);
  EXPECT_DOUBLE_EQ(page.at("moed_inter_token_latency_seconds_sum"), 0.015);
}

TEST_F(MetricsTest, ReloadsConnectionsAndTheCertificate) {
  EXPECT_EQ(Page().at("moed_reloads_total{result=\"failure\",what=\"keys\"}"), 0);
  EXPECT_THAT(Page(), Not(Contains(Key("moed_certificate_expiry_timestamp_seconds"))));
  metrics_.OnReload("keys", false);
  metrics_.OnReload("certificates", true);
  metrics_.OnConnectionWaits();
  metrics_.SetCertificateExpiry(2e9);
  const Samples page = Page();
  EXPECT_EQ(page.at("moed_reloads_total{result=\"failure\",what=\"keys\"}"), 1);
  EXPECT_EQ(page.at("moed_reloads_total{result=\"success\",what=\"certificates\"}"), 1);
  EXPECT_EQ(page.at("moed_connection_waits_total"), 1);
  EXPECT_EQ(page.at("moed_certificate_expiry_timestamp_seconds"), 2e9);
}

TEST_F(MetricsTest, TheProcessHasMemoryDescriptorsAndAnAge) {
  const Samples page = Page();
  EXPECT_GT(page.at("process_cpu_seconds_total"), 0);
  EXPECT_GT(page.at("process_resident_memory_bytes"), 1 << 20);
  EXPECT_GE(page.at("process_open_fds"), 3);
  EXPECT_LE(page.at("process_open_fds"), page.at("process_max_fds"));
  const double unix_seconds =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(page.at("process_start_time_seconds"), unix_seconds, 3600);
}

TEST_F(MetricsTest, ANameOfAnyBytesIsALabel) {
  model_->name = "a\"b\\c\nd\xFF";
  Serve();
  EXPECT_THAT(metrics_.Page(),
              HasSubstr("moed_model_info{model=\"a\\\"b\\\\c\\nd\xEF\xBF\xBD\",arch"));
}

TEST_F(MetricsTest, ExpertsByLayerAndTheirPlaces) {
  Serve(/*num_layers=*/11, /*num_experts=*/4);
  std::vector<int64_t> counts(44, 0);
  counts[0] = 6;  // layer 0: all on one
  for (int expert = 0; expert < 4; ++expert) counts[40 + expert] = 2;
  Route(counts, std::vector<int64_t>(44, 0));

  const Samples page = ExpertsPage();
  EXPECT_EQ(page.at("moed_expert_tokens_total{layer=\"00\",expert=\"0\"}"), 6);
  EXPECT_EQ(page.at("moed_expert_tokens_total{layer=\"10\",expert=\"3\"}"), 2);
  EXPECT_EQ(page.at("moed_expert_placement_info{layer=\"00\",expert=\"1\",rank=\"1\"}"), 1);
  EXPECT_EQ(page.at("moed_expert_series_omitted"), 0);
  EXPECT_EQ(page.at("moed_layer_expert_tokens_total{layer=\"10\"}"), 8);
  EXPECT_EQ(page.at("moed_layer_expert_load_window_tokens{layer=\"00\"}"), 6);
  EXPECT_EQ(page.at("moed_layer_expert_load_max_over_mean_ratio{layer=\"00\"}"), 4);
  EXPECT_EQ(page.at("moed_layer_expert_load_max_over_mean_ratio{layer=\"10\"}"), 1);
  EXPECT_EQ(page.at("moed_layer_expert_load_gini_ratio{layer=\"00\"}"), 0.75);
  EXPECT_EQ(page.at("moed_layer_expert_load_entropy_ratio{layer=\"00\"}"), 0);
  EXPECT_EQ(page.at("moed_layer_experts_dead{layer=\"00\"}"), 3);
  EXPECT_EQ(page.at("moed_layer_experts_dead{layer=\"10\"}"), 0);
  EXPECT_EQ(page.at("moed_expert_repetition_random_ratio{choice=\"first\"}"), 0.25);
}

TEST_F(MetricsTest, RatiosForgetAfterTheWindowAndCountersDoNot) {
  Serve();
  Route({6, 0, 0, 0, 1, 2, 2, 1}, std::vector<int64_t>(8, 0));
  now_ += kExpertLoadWindow + std::chrono::seconds(2);
  const Samples page = ExpertsPage();
  EXPECT_EQ(page.at("moed_layer_expert_load_window_tokens{layer=\"0\"}"), 0);
  EXPECT_EQ(page.at("moed_layer_expert_load_max_over_mean_ratio{layer=\"0\"}"), 1);
  EXPECT_EQ(page.at("moed_layer_experts_dead{layer=\"0\"}"), 0);
  EXPECT_EQ(page.at("moed_expert_tokens_total{layer=\"0\",expert=\"0\"}"), 6);
  EXPECT_EQ(page.at("moed_layer_expert_tokens_total{layer=\"0\"}"), 6);
  EXPECT_NEAR(page.at("moed_expert_load_window_seconds"), 60, 1);
}

TEST_F(MetricsTest, AModelOfTooManyExpertsKeepsTheSeriesOfItsLayers) {
  Serve(/*num_layers=*/8, /*num_experts=*/256);
  EXPECT_THAT(ExpertsPage(), Contains(Key("moed_expert_tokens_total{layer=\"7\",expert=\"255\"}")));
  Serve(/*num_layers=*/9, /*num_experts=*/256);
  std::vector<int64_t> counts(9 * 256, 1);
  Route(counts, counts);
  const Samples page = ExpertsPage();
  EXPECT_THAT(page, Not(Contains(Key(HasSubstr("expert=\"")))));
  EXPECT_EQ(page.at("moed_expert_series_omitted"), 9 * 256);
  EXPECT_EQ(page.at("moed_layer_expert_tokens_total{layer=\"8\"}"), 512);
  EXPECT_EQ(page.at("moed_layer_expert_load_max_over_mean_ratio{layer=\"8\"}"), 1);
}

}  // namespace
}  // namespace moed
