#include "runtime/engine/null_worker_group.h"

#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/engine/engine_impl.h"
#include "tests/runtime/engine/recording_sink.h"

namespace moed {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Lt;
using ::testing::SizeIs;

constexpr int32_t kEos = 2;
constexpr int32_t kFirst = 10;
constexpr int32_t kVocab = 60;

NullWorkerGroupOptions Options() {
  NullWorkerGroupOptions options;
  options.num_kv_blocks_per_rank = 4096;
  options.block_size = 4;
  options.max_sequences_per_rank = 16;
  options.max_rows_per_step = 64;
  options.max_positions = 1024;
  options.num_layers = 3;
  options.num_experts = 4;
  options.experts_per_token = 2;
  options.vocab = kVocab;
  options.first_token_id = kFirst;
  return options;
}

GenerationRequest Request(const std::string& id, int32_t num_prompt_tokens, int32_t max_tokens,
                          uint64_t seed = 1) {
  GenerationRequest request;
  request.request_id = id;
  for (int32_t i = 0; i < num_prompt_tokens; ++i) request.prompt_token_ids.push_back(i % kVocab);
  request.sampling.seed = seed;
  request.stopping.max_tokens = max_tokens;
  request.stopping.eos_token_ids = {kEos};
  request.response.text = false;
  return request;
}

// An engine over null ranks.
class NullEngine {
 public:
  explicit NullEngine(const NullWorkerGroupOptions& options = Options()) {
    auto group = std::make_unique<NullWorkerGroup>(options);
    const auto info = group->Start(nullptr);
    EXPECT_TRUE(info.ok()) << info.status();
    auto engine = MakeEngine({}, std::move(group), *info, /*tokenizer=*/nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(*engine);
  }

  std::shared_ptr<RecordingSink> Submit(GenerationRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    const absl::Status status = engine_->Submit(std::move(request), sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }
  std::vector<int32_t> Run(GenerationRequest request) {
    const auto sink = Submit(std::move(request));
    EXPECT_TRUE(sink->Wait().status.ok());
    return sink->tokens();
  }
  Engine& engine() { return *engine_; }

 private:
  std::unique_ptr<Engine> engine_;
};

std::vector<int32_t> Alone(GenerationRequest request) {
  return NullEngine().Run(std::move(request));
}

TEST(NullWorkerGroupTest, TokensLieWhereTheyAreDrawnFrom) {
  const std::vector<int32_t> tokens = Alone(Request("a", 5, 500));
  EXPECT_THAT(tokens, SizeIs(500));
  EXPECT_THAT(tokens, Each(Ge(kFirst)));
  EXPECT_THAT(tokens, Each(Lt(kVocab)));
  EXPECT_GT(std::set<int32_t>(tokens.begin(), tokens.end()).size(), 40U);
}

TEST(NullWorkerGroupTest, ARequestGetsTheSameTokensWhateverElseRuns) {
  NullWorkerGroupOptions options = Options();
  options.num_ranks = 2;
  NullEngine engine(options);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  const auto request = [](int i) { return Request(absl::StrCat(i), 1 + i * 7 % 90, 1 + i, i); };
  for (int i = 0; i < 60; ++i) sinks.push_back(engine.Submit(request(i)));
  for (int i = 0; i < 60; ++i) {
    EXPECT_TRUE(sinks[i]->Wait().status.ok());
    EXPECT_EQ(sinks[i]->tokens(), Alone(request(i))) << i;
  }
}

TEST(NullWorkerGroupTest, ARequestGetsTheSameTokensWhenPreempted) {
  NullWorkerGroupOptions options = Options();
  options.num_kv_blocks_per_rank = 40;  // a request needs 25 of them in the end
  NullEngine engine(options);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(engine.Submit(Request(absl::StrCat(i), 10, 90, i)));
  int32_t num_preemptions = 0;
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(sinks[i]->Wait().status.ok());
    num_preemptions += sinks[i]->choice_finish().usage.num_preemptions;
    EXPECT_EQ(sinks[i]->tokens(), Alone(Request("a", 10, 90, i))) << i;
  }
  EXPECT_GT(num_preemptions, 0);
}

TEST(NullWorkerGroupTest, SeedsAndChoicesDiffer) {
  EXPECT_NE(Alone(Request("a", 3, 20, 1)), Alone(Request("a", 3, 20, 2)));
  GenerationRequest request = Request("a", 3, 20);
  request.sampling.n = 3;
  NullEngine engine;
  const auto sink = engine.Submit(request);
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->tokens(0), Alone(Request("a", 3, 20)));
  EXPECT_NE(sink->tokens(1), sink->tokens(0));
  EXPECT_NE(sink->tokens(2), sink->tokens(1));
  EXPECT_THAT(sink->tokens(2), SizeIs(20));
}

TEST(NullWorkerGroupTest, GreedyChoicesAreEqual) {
  GenerationRequest request = Request("a", 3, 20);
  request.sampling.n = 2;
  request.sampling.temperature = 0;
  NullEngine engine;
  const auto sink = engine.Submit(request);
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->tokens(1), sink->tokens(0));
}

TEST(NullWorkerGroupTest, TheEndTokenIsDrawnOnlyWhereItIsAskedFor) {
  GenerationRequest request = Request("a", 3, 20);
  request.sampling.allowed_token_ids = {kEos};
  EXPECT_THAT(Alone(request), ElementsAre(kEos));
  request.sampling.allowed_token_ids = {kEos, 15};
  request.stopping.min_tokens = 4;
  const std::vector<int32_t> tokens = Alone(request);
  ASSERT_THAT(tokens, SizeIs(Ge(5U)));
  EXPECT_THAT(std::vector<int32_t>(tokens.begin(), tokens.begin() + 4), Each(15));
  EXPECT_EQ(tokens.back(), kEos);
}

TEST(NullWorkerGroupTest, BadWordsAreNotDrawn) {
  GenerationRequest request = Request("a", 3, 200);
  request.sampling.allowed_token_ids = {20, 21, 22};
  request.sampling.bad_words = {{22}, {20, 21}};
  const std::vector<int32_t> tokens = Alone(request);
  ASSERT_THAT(tokens, SizeIs(200));
  EXPECT_THAT(tokens, Each(Lt(22)));
  for (size_t i = 1; i < tokens.size(); ++i) {
    EXPECT_FALSE(tokens[i - 1] == 20 && tokens[i] == 21) << i;
  }
}

TEST(NullWorkerGroupTest, LogprobsAreZeroAndAsManyAsAskedFor) {
  GenerationRequest request = Request("a", 70, 3);  // more than one chunk
  request.response.num_logprobs = 2;
  request.response.num_prompt_logprobs = 1;
  class Sink : public RecordingSink {
   public:
    std::vector<TokenLogprob> tokens;
    std::vector<TokenLogprob> prompt;
    bool OnDelta(GenerationDelta delta) override {
      if (delta.prompt) prompt = delta.prompt->logprobs;
      tokens.insert(tokens.end(), delta.logprobs.begin(), delta.logprobs.end());
      return RecordingSink::OnDelta(std::move(delta));
    }
  };
  NullEngine engine;
  const auto sink = std::make_shared<Sink>();
  ASSERT_TRUE(engine.engine().Submit(request, sink).ok());
  EXPECT_TRUE(sink->Wait().status.ok());
  ASSERT_THAT(sink->tokens, SizeIs(3));
  EXPECT_EQ(sink->tokens[0].token_id, sink->RecordingSink::tokens()[0]);
  EXPECT_THAT(sink->tokens[0].top, ElementsAre(std::make_pair(0, 0.0F), std::make_pair(1, 0.0F)));
  ASSERT_THAT(sink->prompt, SizeIs(69));
  for (int i = 0; i < 69; ++i) {
    EXPECT_EQ(sink->prompt[i].token_id, request.prompt_token_ids[i + 1]);
    EXPECT_EQ(sink->prompt[i].logprob, 0);
    EXPECT_THAT(sink->prompt[i].top, SizeIs(1));
  }
}

TEST(NullWorkerGroupTest, ExpertsAreToldButNotCounted) {
  GenerationRequest request = Request("a", 3, 2);
  request.response.routed_experts = true;
  class Sink : public RecordingSink {
   public:
    std::vector<int16_t> experts;
    bool OnDelta(GenerationDelta delta) override {
      experts.insert(experts.end(), delta.routed_experts.begin(), delta.routed_experts.end());
      return RecordingSink::OnDelta(std::move(delta));
    }
  };
  NullEngine engine;
  const auto sink = std::make_shared<Sink>();
  ASSERT_TRUE(engine.engine().Submit(request, sink).ok());
  EXPECT_TRUE(sink->Wait().status.ok());
  ASSERT_THAT(sink->experts, SizeIs((3 + 2 - 1) * 3 * 2));
  for (size_t i = 0; i < sink->experts.size(); ++i) {
    EXPECT_EQ(sink->experts[i], static_cast<int16_t>(i % 2));
  }
  EXPECT_EQ(engine.engine().routing().Ranks()[0].routed_pairs, 0);
  EXPECT_GT(engine.engine().routing().Ranks()[0].num_steps, 0);
}

TEST(NullWorkerGroupTest, AStepTakesItsTime) {
  NullWorkerGroupOptions options = Options();
  options.step_time = std::chrono::milliseconds(20);
  NullEngine engine(options);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(engine.Run(Request("a", 3, 5)), SizeIs(5));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 5 * options.step_time);
}

TEST(NullWorkerGroupTest, EveryRankReportsThatItIsReady) {
  NullWorkerGroupOptions options = Options();
  options.num_ranks = 3;
  std::vector<int> ranks;
  const auto info = NullWorkerGroup(options).Start([&](const RankProgress& progress) {
    ranks.push_back(progress.rank);
    return true;
  });
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_THAT(ranks, ElementsAre(0, 1, 2));
  EXPECT_THAT(info->backend, HasSubstr("nothing is computed"));
  const auto cancelled = NullWorkerGroup(options).Start([](const RankProgress&) { return false; });
  EXPECT_EQ(cancelled.status().code(), absl::StatusCode::kCancelled);
}

TEST(NullWorkerGroupTest, AnOptionOutOfRangeIsNamed) {
  NullWorkerGroupOptions options = Options();
  options.first_token_id = options.vocab;
  const absl::Status status = NullWorkerGroup(options).Start(nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("first_token_id must be in [0, 59], not 60"));
}

}  // namespace
}  // namespace moed
