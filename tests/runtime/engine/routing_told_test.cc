// Every figure about routing, computed again in plain loops from the experts that the requests were
// told of: the demonstration model's real choices.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/engine/engine_impl.h"
#include "tests/runtime/engine/demo_group.h"
#include "tests/runtime/engine/recording_sink.h"

namespace moed {
namespace {

class RoutingSink : public RecordingSink {
 public:
  bool OnDelta(GenerationDelta delta) override {
    {
      MutexLock lock(mutex_);
      experts_.insert(experts_.end(), delta.routed_experts.begin(), delta.routed_experts.end());
    }
    return RecordingSink::OnDelta(std::move(delta));
  }
  std::vector<int16_t> experts() const {
    MutexLock lock(mutex_);
    return experts_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<int16_t> experts_ ABSL_GUARDED_BY(mutex_);
};

// A token with the experts of each layer, in the order of choice.
struct ToldRow {
  int32_t token_id = 0;
  std::vector<std::vector<int>> experts;  // [num_layers, k]
};
using ToldSequence = std::vector<ToldRow>;

class RoutingToldTest : public ::testing::Test {
 protected:
  // One run serves all tests.
  static void SetUpTestSuite() {
    WorkerGroupInfo info;
    auto group = StartDemoGroup(
        [](ThreadWorkerGroupOptions* options) {
          options->num_ranks = 2;
          options->num_kv_blocks = 128;
          options->trace_routing = true;
        },
        &info);
    ASSERT_NE(group, nullptr);
    info_ = info;
    EngineOptions options;
    options.keeps_token_statistics = true;
    auto engine = MakeEngine(options, std::move(group), info, nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(*engine);
    RunRequests();
  }

  // Of few different tokens, so that they repeat.
  static void RunRequests() {
    std::mt19937_64 random(5);
    std::vector<GenerationRequest> requests;
    std::vector<std::shared_ptr<RoutingSink>> sinks;
    for (int i = 0; i < 7; ++i) {
      GenerationRequest request;
      request.request_id = absl::StrCat(i);
      for (int j = 0; j < 5 + 4 * i; ++j) {
        request.prompt_token_ids.push_back(300 + static_cast<int32_t>(random() % 20));
      }
      request.stopping.max_tokens = 8;
      request.sampling.temperature = 0;
      request.response.text = false;
      request.response.routed_experts = true;
      requests.push_back(request);
      sinks.push_back(std::make_shared<RoutingSink>());
      ASSERT_TRUE(engine_->Submit(request, sinks.back()).ok());
    }
    for (size_t i = 0; i < sinks.size(); ++i) {
      ASSERT_TRUE(sinks[i]->Wait().status.ok());
      std::vector<int32_t> ids = requests[i].prompt_token_ids;
      const std::vector<int32_t> generated = sinks[i]->tokens();
      ids.insert(ids.end(), generated.begin(), generated.end() - 1);  // the last has no row
      Record(ids, sinks[i]->experts());
    }
    ASSERT_EQ(engine_->Stats().counters.preemptions, 0) << "rows would be computed twice";
  }

  static void Record(const std::vector<int32_t>& ids, const std::vector<int16_t>& experts) {
    const auto k = static_cast<size_t>(info_.experts_per_token);
    ASSERT_EQ(experts.size(), ids.size() * info_.num_layers * k);
    ToldSequence sequence;
    size_t next = 0;
    for (const int32_t id : ids) {
      ToldRow row{id, {}};
      for (int layer = 0; layer < info_.num_layers; ++layer) {
        row.experts.emplace_back(experts.begin() + next, experts.begin() + next + k);
        next += k;
      }
      sequence.push_back(std::move(row));
    }
    sequences_.push_back(std::move(sequence));
  }

  static void TearDownTestSuite() {
    engine_.reset();
    sequences_.clear();
  }
  void SetUp() override { ASSERT_FALSE(sequences_.empty()) << "nothing has run"; }

  static WorkerGroupInfo info_;
  static std::unique_ptr<Engine> engine_;
  static std::vector<ToldSequence> sequences_;
};

WorkerGroupInfo RoutingToldTest::info_;
std::unique_ptr<Engine> RoutingToldTest::engine_;
std::vector<ToldSequence> RoutingToldTest::sequences_;

TEST_F(RoutingToldTest, CountsAreThoseOfTheToldExperts) {
  const ExpertLoad load = engine_->routing().Load(std::nullopt, TimePoint::max());
  std::vector<int64_t> counts(static_cast<size_t>(info_.num_layers) * info_.num_experts, 0);
  for (const ToldSequence& sequence : sequences_) {
    for (const ToldRow& row : sequence) {
      for (int layer = 0; layer < info_.num_layers; ++layer) {
        for (const int expert : row.experts[layer]) ++counts[layer * info_.num_experts + expert];
      }
    }
  }
  EXPECT_EQ(load.expert_tokens, counts);
}

TEST_F(RoutingToldTest, RepetitionIsThatOfNeighboursInASequence) {
  const ExpertLoad load = engine_->routing().Load(std::nullopt, TimePoint::max());
  for (int layer = 0; layer < info_.num_layers; ++layer) {
    int64_t num_rows = 0, same_first = 0, any_shared = 0;
    for (const ToldSequence& sequence : sequences_) {
      for (size_t i = 1; i < sequence.size(); ++i) {
        const std::vector<int>& before = sequence[i - 1].experts[layer];
        const std::vector<int>& now = sequence[i].experts[layer];
        ++num_rows;
        if (before[0] == now[0]) ++same_first;
        const std::set<int> both(before.begin(), before.begin() + 2);
        if (both.count(now[0]) + both.count(now[1]) > 0) ++any_shared;
      }
    }
    const RepetitionSummary& repetition = load.repetition[layer];
    EXPECT_EQ(repetition.num_rows, num_rows) << "layer " << layer;
    EXPECT_DOUBLE_EQ(repetition.first, static_cast<double>(same_first) / num_rows);
    EXPECT_DOUBLE_EQ(repetition.any, static_cast<double>(any_shared) / num_rows);
  }
}

TEST_F(RoutingToldTest, ConsistencyIsThatOfEqualTokens) {
  const auto report = engine_->routing().Tokens(/*top_n=*/3);
  ASSERT_TRUE(report.ok()) << report.status();
  for (int layer = 0; layer < info_.num_layers; ++layer) {
    std::map<int32_t, std::vector<int>> first_choices;  // by token id
    for (const ToldSequence& sequence : sequences_) {
      for (const ToldRow& row : sequence) {
        first_choices[row.token_id].push_back(row.experts[layer][0]);
      }
    }
    int64_t num_rows = 0, num_ids = 0, with_favourite = 0;
    double agreement = 0;
    for (const auto& [id, choices] : first_choices) {
      const auto count = static_cast<int64_t>(choices.size());
      if (count < 2) continue;
      int64_t most = 0, num_equal = 0;  // ordered pairs of different rows
      for (int expert = 0; expert < info_.num_experts; ++expert) {
        most = std::max<int64_t>(most, std::count(choices.begin(), choices.end(), expert));
      }
      for (size_t a = 0; a < choices.size(); ++a) {
        for (size_t b = 0; b < choices.size(); ++b) {
          if (a != b && choices[a] == choices[b]) ++num_equal;
        }
      }
      num_rows += count;
      ++num_ids;
      with_favourite += most;
      agreement += static_cast<double>(count) * num_equal / (count * (count - 1));
    }
    const RoutingConsistency& consistency = report->consistency[layer];
    EXPECT_EQ(consistency.num_rows, num_rows) << "layer " << layer;
    EXPECT_EQ(consistency.num_token_ids, num_ids);
    EXPECT_NEAR(consistency.favourite, static_cast<double>(with_favourite) / num_rows, 1e-12);
    EXPECT_NEAR(consistency.agreement, agreement / num_rows, 1e-12);
    EXPECT_GT(consistency.favourite, consistency.random_favourite)
        << "a trained router is more faithful than chance";
  }
}

TEST_F(RoutingToldTest, AnExpertsTokensAreThoseItGotMost) {
  const auto report = engine_->routing().Tokens(/*top_n=*/3);
  ASSERT_TRUE(report.ok()) << report.status();
  std::map<int32_t, int64_t> num_rows;
  for (const ToldSequence& sequence : sequences_) {
    for (const ToldRow& row : sequence) ++num_rows[row.token_id];
  }
  for (int layer = 0; layer < info_.num_layers; ++layer) {
    for (int expert = 0; expert < info_.num_experts; ++expert) {
      std::map<int32_t, int64_t> received;
      for (const ToldSequence& sequence : sequences_) {
        for (const ToldRow& row : sequence) {
          const std::vector<int>& chosen = row.experts[layer];
          if (std::count(chosen.begin(), chosen.end(), expert) > 0) ++received[row.token_id];
        }
      }
      std::vector<std::pair<int64_t, int32_t>> order;  // the most rows, then the lower id
      for (const auto& [id, count] : received) order.push_back({-count, id});
      std::sort(order.begin(), order.end());
      const auto& top = report->top_tokens[layer * info_.num_experts + expert];
      ASSERT_EQ(top.size(), std::min<size_t>(3, order.size()));
      for (size_t i = 0; i < top.size(); ++i) {
        EXPECT_EQ(top[i].token_id, order[i].second) << "layer " << layer << " expert " << expert;
        EXPECT_EQ(top[i].num_rows, -order[i].first);
        EXPECT_DOUBLE_EQ(top[i].share, static_cast<double>(top[i].num_rows) /
                                           static_cast<double>(num_rows[top[i].token_id]));
      }
    }
  }
}

}  // namespace
}  // namespace moed
