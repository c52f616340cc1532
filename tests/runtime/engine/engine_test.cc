#include "runtime/engine/engine_impl.h"

#include <numeric>
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
  // `request` must end, by its sink's word or by its text, with its third token. Beside one that
  // goes on, it takes part in at most one more step, and the other gets what it gets alone.
  void ExpectGoneWithinOneStep(const GenerationRequest& request,
                               const std::shared_ptr<RecordingSink>& sink) {
    control_->Hold();
    const GenerationRequest other = Request("other", 1, 20, /*seed=*/77);
    const auto other_sink = Submit(other);
    control_->WaitForLaunch(1);
    ASSERT_TRUE(engine_->Submit(request, sink).ok());
    for (int64_t step = 1; step <= 4; ++step) {
      control_->WaitForLaunch(step);
      control_->ReleaseStep();
    }
    sink->Wait();  // its third token came from step 4; step 5 may have been planned by then
    control_->WaitForLaunch(5);
    control_->ReleaseStep();
    control_->WaitForLaunch(6);
    EXPECT_EQ(engine_->Stats().requests_running, 1);
    control_->ReleaseAll();
    EXPECT_TRUE(other_sink->Wait().status.ok());
    EXPECT_EQ(other_sink->tokens(), FakeContinuation(other, rank_options_.vocab));
    EXPECT_EQ(sink->num_finishes(), 1);
    ExpectAllBlocksFree();
  }
};

TEST_F(EngineTest, ARequestGetsWhatItGetsAlone) {
  StartEngine();
  const GenerationRequest request = Request("a", 70, 9, /*seed=*/3);
  const auto sink = Submit(request);
  const GenerationFinish finish = sink->Wait();
  EXPECT_TRUE(finish.status.ok()) << finish.status;
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
  const GenerationFinish finish = sink->Wait();
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
  const GenerationFinish finish = sink->Wait();
  EXPECT_TRUE(finish.status.ok()) << finish.status;
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
  do {
    ++request.sampling.seed;
  } while (FakeToken(request.sampling.seed, 5, rank_options_.vocab) < TinyByte('a') ||
           FakeToken(request.sampling.seed, 5, rank_options_.vocab) > TinyByte('z'));
  const int32_t third = FakeToken(request.sampling.seed, 5, rank_options_.vocab);
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
  const GenerationFinish finish = first->Wait();
  EXPECT_DOUBLE_EQ(finish.queue_seconds, 0.0);
  EXPECT_DOUBLE_EQ(finish.first_token_seconds, 0.5);
  EXPECT_DOUBLE_EQ(finish.total_seconds, 0.75);
}

TEST_F(EngineTest, CountsEveryComputedRowsChoices) {
  StartEngine();
  const auto a = Submit(Request("a", 10, 4));
  const auto b = Submit(Request("b", 7, 1));
  a->Wait();
  b->Wait();
  const EngineStats stats = engine_->Stats();
  ASSERT_EQ(stats.expert_tokens.size(), 8u);
  // 10 + 3 rows and 7 rows; the fake ranks choose one expert a row in each of two layers.
  EXPECT_EQ(std::accumulate(stats.expert_tokens.begin(), stats.expert_tokens.begin() + 4, 0), 20);
  EXPECT_EQ(std::accumulate(stats.expert_tokens.begin(), stats.expert_tokens.end(), 0), 40);
  EXPECT_EQ(stats.steps, static_cast<uint64_t>(control_->num_launched()));
  EXPECT_EQ(control_->num_rows(), 20);
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
