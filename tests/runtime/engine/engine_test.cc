#include "runtime/engine/engine_impl.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine/engine_fixture.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

class EngineTest : public EngineFixture {
 protected:
  // `request`, with a prompt of three tokens, must end with its third token, by its sink's word or
  // by its text. Beside one that goes on, it has at most one row too many, and the other gets what
  // it gets alone.
  void ExpectGoneWithinOneStep(const GenerationRequest& request,
                               const std::shared_ptr<RecordingSink>& sink) {
    const GenerationRequest other = Request("other", 1, 200, /*seed=*/77);
    const auto other_sink = Submit(other);
    ASSERT_TRUE(engine_->Submit(request, sink).ok());
    sink->Wait();
    EXPECT_TRUE(other_sink->Wait().status.ok());
    EXPECT_EQ(other_sink->tokens(), FakeContinuation(other, rank_options_.vocab));
    EXPECT_LE(control_->num_rows(), 200 + (3 + 2) + 1);
    EXPECT_EQ(sink->num_finishes(), 1);
    ExpectAllBlocksFree();
  }
};

TEST_F(EngineTest, ARequestGetsWhatItGetsAlone) {
  StartEngine();
  const GenerationRequest request = Request("a", 70, 9, /*seed=*/3);
  const auto sink = Submit(request);
  const absl::Status status = sink->Wait().status;
  EXPECT_TRUE(status.ok()) << status;
  const ChoiceFinish finish = sink->choice_finish();
  EXPECT_EQ(finish.reason, FinishReason::kLength);
  EXPECT_EQ(finish.prompt_tokens, 70);
  EXPECT_EQ(finish.completion_tokens, 9);
  EXPECT_EQ(sink->tokens(), FakeContinuation(request, rank_options_.vocab));
}

TEST_F(EngineTest, ManyRequestsGetWhatTheyGetAlone) {
  StartEngine();
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 200; ++i) {
    requests.push_back(Request(absl::StrCat(i), 1 + i * 7 % 50, 1 + i % 13, i));
    sinks.push_back(Submit(requests.back()));
  }
  for (int i = 0; i < 200; ++i) {
    EXPECT_TRUE(sinks[i]->Wait().status.ok());
    EXPECT_EQ(sinks[i]->tokens(), FakeContinuation(requests[i], rank_options_.vocab)) << i;
  }
  ExpectAllBlocksFree();
}

TEST_F(EngineTest, EosEndsWithItsToken) {
  StartEngine();
  GenerationRequest request = Request("a", 5, 9);
  const std::vector<int32_t> free_run = FakeContinuation(request, rank_options_.vocab);
  request.stopping.eos_token_ids = {free_run[3]};
  const auto sink = Submit(request);
  sink->Wait();
  const ChoiceFinish finish = sink->choice_finish();
  EXPECT_EQ(finish.reason, FinishReason::kStop);
  EXPECT_EQ(finish.matched_token_id, free_run[3]);
  EXPECT_EQ(finish.completion_tokens, 4);
}

TEST_F(EngineTest, AStopStringEndsTheTextBeforeIt) {
  constexpr int32_t kNumWords = 3000;
  std::vector<std::string> words;
  for (int i = 0; i < kNumWords; ++i) words.push_back(absl::StrCat("w", i, "."));
  rank_options_.vocab = kTinyFirstPiece + kNumWords;
  const std::unique_ptr<Tokenizer> tokenizer = MakeTinyTokenizer(words);
  tokenizer_ = tokenizer.get();
  StartEngine();
  GenerationRequest request = Request("a", 5, 150);
  request.response.text = true;
  const std::vector<int32_t> free_run = FakeContinuation(request, rank_options_.vocab);
  const std::string whole = *tokenizer->Decode(free_run);
  // The end of one word and the beginning of the next, from near the middle of the run.
  size_t middle = 70;
  while (free_run[middle] < kTinyFirstPiece || free_run[middle + 1] < kTinyFirstPiece) ++middle;
  const std::string stop = words[free_run[middle] - kTinyFirstPiece].substr(1) +
                           words[free_run[middle + 1] - kTinyFirstPiece].substr(0, 3);
  request.stopping.stop_strings = {stop};
  const auto sink = Submit(request);
  const absl::Status status = sink->Wait().status;
  EXPECT_TRUE(status.ok()) << status;
  const ChoiceFinish finish = sink->choice_finish();
  EXPECT_EQ(finish.reason, FinishReason::kStop);
  EXPECT_EQ(finish.matched_stop_string, stop);
  EXPECT_EQ(sink->text(), whole.substr(0, whole.find(stop)));
  EXPECT_EQ(finish.completion_tokens, static_cast<int32_t>(sink->tokens().size()));
  EXPECT_LT(sink->tokens().size(), free_run.size());
}

TEST_F(EngineTest, AReaderThatSaysNoEndsItsRequestWithinOneStep) {
  StartEngine();
  const auto slow = std::make_shared<RecordingSink>();
  slow->on_delta = [](size_t num_tokens) { return num_tokens < 3; };
  ExpectGoneWithinOneStep(Request("slow", 3, 100), slow);
  EXPECT_EQ(slow->Wait().status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(slow->tokens().size(), 3u);
}

TEST_F(EngineTest, AStopStringEndsItsRequestWithinOneStep) {
  const std::unique_ptr<Tokenizer> tokenizer = MakeTinyTokenizer({});
  tokenizer_ = tokenizer.get();
  rank_options_.vocab = kTinyFirstPiece;
  StartEngine();
  // A seed whose third token is a printable character.
  GenerationRequest request = Request("stopped", 3, 100, /*seed=*/0);
  int32_t third = 0;
  do {
    ++request.sampling.seed;
    third = FakeContinuation(request, rank_options_.vocab)[2];
  } while (third < TinyByte('a') || third > TinyByte('z'));
  request.stopping.stop_strings = {std::string(1, static_cast<char>(third - TinyByte(0)))};
  const auto sink = std::make_shared<RecordingSink>();
  ExpectGoneWithinOneStep(request, sink);
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->tokens().size(), 3u);
}

TEST_F(EngineTest, AnIdIsFreeAgainWhenItsRequestIsToldOfItsEnd) {
  StartEngine();
  control_->Hold();
  const auto sink = std::make_shared<RecordingSink>();
  absl::Status in_finish;
  sink->on_finish = [&] { in_finish = TrySubmit(Request("a", 1, 1)); };
  ASSERT_TRUE(engine_->Submit(Request("a", 1, 1), sink).ok());
  EXPECT_EQ(TrySubmit(Request("a", 1, 1)).code(), absl::StatusCode::kAlreadyExists);
  control_->ReleaseAll();
  sink->Wait();
  EXPECT_TRUE(in_finish.ok()) << in_finish;
}

TEST_F(EngineTest, RefusesWhatItCannotServe) {
  StartEngine();
  const absl::Status too_long = TrySubmit(Request("a", 300, 1));
  EXPECT_EQ(too_long.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(too_long.message()), HasSubstr("75 KV blocks of 4 tokens; there are 64"));
  EXPECT_EQ(TrySubmit(Request("a", 0, 1)).code(), absl::StatusCode::kInvalidArgument);
  GenerationRequest with_text = Request("a", 1, 1);
  with_text.response.text = true;
  EXPECT_EQ(TrySubmit(with_text).code(), absl::StatusCode::kFailedPrecondition);
  GenerationRequest with_stop = Request("a", 1, 1);
  with_stop.stopping.stop_strings = {"x"};
  EXPECT_EQ(TrySubmit(with_stop).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Submit(Request("a", 1, 1))->Wait().status.ok()) << "a refused id is not live";
}

TEST_F(EngineTest, AFullQueueRefusesAndThoseAcceptedFinish) {
  num_ranks_ = 1;
  rank_options_.max_sequences = 1;
  options_.max_queued_requests = 2;
  StartEngine();
  control_->Hold();
  std::vector<std::shared_ptr<RecordingSink>> sinks = {Submit(Request("0", 1, 1))};
  control_->WaitForLaunch(1);
  sinks.push_back(Submit(Request("1", 1, 1)));
  sinks.push_back(Submit(Request("2", 1, 1)));
  EXPECT_EQ(engine_->Stats().requests_waiting, 2);
  EXPECT_EQ(engine_->Stats().requests_running, 1);
  EXPECT_EQ(TrySubmit(Request("3", 1, 1)).code(), absl::StatusCode::kResourceExhausted);
  control_->ReleaseAll();
  for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait().status.ok());
}

TEST_F(EngineTest, TimesComeFromItsClock) {
  StartEngine();
  control_->Hold();
  const auto first = Submit(Request("a", 1, 2));
  control_->WaitForLaunch(1);
  AdvanceClock(500);
  control_->ReleaseStep();
  first->WaitForTokens(1);
  control_->WaitForLaunch(2);
  AdvanceClock(250);
  control_->ReleaseStep();
  first->Wait();
  const ChoiceFinish finish = first->choice_finish();
  EXPECT_DOUBLE_EQ(finish.queue_seconds, 0.0);
  EXPECT_DOUBLE_EQ(finish.first_token_seconds, 0.5);
  EXPECT_DOUBLE_EQ(finish.total_seconds, 0.75);
}

TEST_F(EngineTest, CountsEveryComputedRowsChoices) {
  options_.prefix_cache = false;  // the prompts begin alike
  StartEngine();
  const auto a = Submit(Request("a", 10, 4));
  const auto b = Submit(Request("b", 7, 1));
  a->Wait();
  b->Wait();
  const ExpertLoad load = engine_->routing().Load(std::nullopt, options_.now());
  ASSERT_EQ(load.expert_tokens.size(), 8u);
  // 10 + 3 rows and 7 rows; the fake ranks choose one expert a row in each of two layers.
  EXPECT_EQ(std::accumulate(load.expert_tokens.begin(), load.expert_tokens.begin() + 4, 0), 20);
  EXPECT_EQ(std::accumulate(load.expert_tokens.begin(), load.expert_tokens.end(), 0), 40);
  EXPECT_EQ(engine_->Stats().counters.steps, static_cast<uint64_t>(control_->num_launched()));
  EXPECT_EQ(control_->num_rows(), 20);
}

TEST_F(EngineTest, ContinuationsOfARequestEndEachByItself) {
  StartEngine();
  GenerationRequest request = Request("a", 6, 9);
  request.sampling.n = 3;
  const std::vector<int32_t> second = FakeContinuation(request, rank_options_.vocab, 1);
  request.stopping.stop_token_ids = {second[3]};
  const auto sink = Submit(request);
  EXPECT_TRUE(sink->Wait().status.ok());
  for (int32_t choice = 0; choice < 3; ++choice) {
    const auto expected = FakeContinuation(request, rank_options_.vocab, choice);
    EXPECT_EQ(sink->choice_finish(choice).completion_tokens, static_cast<int>(expected.size()));
    EXPECT_EQ(sink->tokens(choice), expected) << "choice " << choice;
  }
  EXPECT_EQ(sink->choice_finish(1).reason, FinishReason::kStop);
  ExpectAllBlocksFree();
}

TEST_F(EngineTest, AStopStringOfOneContinuationLeavesTheOthers) {
  const std::unique_ptr<Tokenizer> tokenizer = MakeTinyTokenizer({});
  tokenizer_ = tokenizer.get();
  rank_options_.vocab = kTinyFirstPiece;
  StartEngine();
  GenerationRequest request = Request("a", 3, 40);
  request.sampling.n = 2;
  // A seed whose second continuation has, as its third token, a letter that the first has not.
  std::string stop;
  while (stop.empty()) {
    ++request.sampling.seed;
    const int32_t third = FakeContinuation(request, rank_options_.vocab, 1)[2];
    const auto first = FakeContinuation(request, rank_options_.vocab, 0);
    const bool is_letter = third >= TinyByte('a') && third <= TinyByte('z');
    if (!is_letter || std::find(first.begin(), first.end(), third) != first.end()) continue;
    stop = std::string(1, static_cast<char>(third - TinyByte(0)));
  }
  request.stopping.stop_strings = {stop};
  const auto sink = Submit(request);
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->choice_finish(1).matched_stop_string, stop);
  EXPECT_LE(sink->tokens(1).size(), 3u);
  EXPECT_EQ(sink->choice_finish(0).reason, FinishReason::kLength);
  EXPECT_EQ(sink->tokens(0).size(), 40u);
  ExpectAllBlocksFree();
}

TEST_F(EngineTest, ATimeLimitEndsNormally) {
  StartEngine();
  control_->Hold();
  GenerationRequest request = Request("a", 5, 50);
  request.stopping.time_limit = std::chrono::milliseconds(300);
  const auto sink = Submit(request);
  control_->WaitForLaunch(1);
  AdvanceClock(300);
  control_->ReleaseAll();
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->choice_finish().reason, FinishReason::kTimeLimit);
  EXPECT_LE(sink->tokens().size(), 2u);
}

TEST_F(EngineTest, UnderAShortageEveryRequestGetsWhatItGetsAlone) {
  rank_options_.num_blocks = 12;
  StartEngine();
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 60; ++i) {
    requests.push_back(Request(absl::StrCat(i), 1 + i * 7 % 20, 1 + i * 5 % 28, i));
    sinks.push_back(Submit(requests.back()));
  }
  int num_preemptions = 0;
  for (int i = 0; i < 60; ++i) {
    EXPECT_TRUE(sinks[i]->Wait().status.ok());
    EXPECT_EQ(sinks[i]->tokens(), FakeContinuation(requests[i], rank_options_.vocab)) << i;
    num_preemptions += sinks[i]->choice_finish().usage.num_preemptions;
  }
  EXPECT_GT(num_preemptions, 0);
  EXPECT_EQ(engine_->Stats().counters.preemptions, num_preemptions);
  ExpectAllBlocksFree();
}

TEST_F(EngineTest, DrainingRefusesNewWorkAndFinishesTheOld) {
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 3, 3));
  engine_->BeginDrain();
  EXPECT_EQ(TrySubmit(Request("b", 3, 3)).code(), absl::StatusCode::kUnavailable);
  control_->ReleaseAll();
  EXPECT_TRUE(sink->Wait().status.ok());
  EXPECT_EQ(sink->tokens().size(), 3u);
}

TEST_F(EngineTest, ShutdownEndsEverythingOnceAndStopsTheRanks) {
  num_ranks_ = 1;
  rank_options_.max_sequences = 1;
  StartEngine();
  control_->Hold();
  const auto running = Submit(Request("running", 3, 30));
  const auto waiting = Submit(Request("waiting", 3, 30));
  control_->WaitForLaunch(1);
  control_->ReleaseAll();
  engine_->Shutdown(absl::UnavailableError("closing"));
  for (const auto& sink : {running, waiting}) {
    EXPECT_EQ(sink->num_finishes(), 1);
    EXPECT_EQ(sink->num_calls_after_finish(), 0);
  }
  EXPECT_EQ(control_->num_stops(), 1);
  EXPECT_EQ(TrySubmit(Request("late", 1, 1)).code(), absl::StatusCode::kUnavailable);
  engine_->Shutdown(absl::UnavailableError("again"));
  EXPECT_EQ(control_->num_stops(), 1);
  ExpectAllBlocksFree();
  engine_.reset();
  EXPECT_TRUE(control_->is_destroyed());
}

TEST(EngineHangTest, AGroupThatHangsIsLeftUndestroyed) {
  const FakeRankOptions rank_options;
  const auto control = std::make_shared<FakeWorkerControl>();
  control->HangOnStop();
  auto group = std::make_unique<FakeWorkerGroup>(1, rank_options, control);
  FakeWorkerGroup* const left_behind = group.get();
  auto engine = MakeEngine({}, std::move(group), FakeWorkerGroup::Info(1, rank_options), nullptr);
  ASSERT_TRUE(engine.ok()) << engine.status();
  engine->reset();
  EXPECT_EQ(control->num_stops(), 1);
  ASSERT_FALSE(control->is_destroyed());
  delete left_behind;  // no rank hangs here
}

// Keeps how the first step is exchanged.
class ExchangeWatch : public FakeWorkerGroup {
 public:
  ExchangeWatch(const FakeRankOptions& options, std::shared_ptr<FakeWorkerControl> control,
                std::vector<ExchangeStrategy>& seen)
      : FakeWorkerGroup(1, options, std::move(control)), seen_(seen) {}
  absl::Status Launch(std::vector<RankBatch> batches) override {
    seen_.push_back(batches.front().exchange);
    return FakeWorkerGroup::Launch(std::move(batches));
  }

 private:
  std::vector<ExchangeStrategy>& seen_;
};

TEST_F(EngineTest, ARankThatStandsForAGroupTakesTheGroupsExchange) {
  for (const int exchange_ranks : {0, 10}) {
    std::vector<ExchangeStrategy> seen;  // the engine thread's until it ends
    control_ = std::make_shared<FakeWorkerControl>();
    WorkerGroupInfo info = FakeWorkerGroup::Info(1, rank_options_);
    info.exchange_ranks = exchange_ranks;
    auto engine = MakeEngine(
        options_, std::make_unique<ExchangeWatch>(rank_options_, control_, seen), info, tokenizer_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    EXPECT_TRUE(Submit(Request("prompt", 20, 1))->Wait().status.ok());  // of the group 200 rows
    engine_.reset();
    ASSERT_FALSE(seen.empty());
    EXPECT_EQ(seen.front(),
              exchange_ranks == 0 ? ExchangeStrategy::kGather : ExchangeStrategy::kExact);
  }
}

TEST_F(EngineTest, OptionsOutOfRangeAreRefusedByName) {
  const auto message = [&](const EngineOptions& options, const WorkerGroupInfo& info) {
    auto group =
        std::make_unique<FakeWorkerGroup>(1, rank_options_, std::make_shared<FakeWorkerControl>());
    const auto engine = MakeEngine(options, std::move(group), info, nullptr);
    EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(engine.status().message());
  };
  const WorkerGroupInfo good = FakeWorkerGroup::Info(1, rank_options_);
  EngineOptions options;
  options.token_budget = 33;
  EXPECT_THAT(message(options, good), HasSubstr("token_budget must be in [0, 32], not 33"));
  options.token_budget = 0;
  options.max_queued_requests = 0;
  EXPECT_THAT(message(options, good), HasSubstr("max_queued_requests"));
  options.max_queued_requests = 1;
  options.exchange = ExchangeMode::kGather;
  WorkerGroupInfo info = good;
  info.max_gather_rows = 0;
  EXPECT_THAT(message(options, info), HasSubstr("max_gather_rows"));
  info = good;
  info.block_size = 0;
  EXPECT_THAT(message({}, info), HasSubstr("block_size"));
}

}  // namespace
}  // namespace moed
