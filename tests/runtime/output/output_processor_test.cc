#include "runtime/output/output_processor.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int32_t kStopPiece = kTinyFirstPiece;  // "STOP"

TimePoint At(int milliseconds) { return TimePoint(std::chrono::milliseconds(milliseconds)); }

// Writes down what it is told.
class TestSink : public GenerationSink {
 public:
  bool OnDelta(GenerationDelta delta) override {
    calls.push_back(absl::StrCat(
        "delta ", delta.choice, ":",
        delta.token_ids.empty() ? std::string(" none") : absl::StrCat(" ", delta.token_ids.back()),
        delta.finish ? " last" : ""));
    deltas.push_back(std::move(delta));
    return reads;
  }
  void OnFinish(const GenerationFinish& told) override {
    calls.push_back("finish");
    finish = told;
  }
  const ChoiceFinish& last() const { return deltas.back().finish.value(); }

  bool reads = true;
  std::vector<std::string> calls;
  std::vector<GenerationDelta> deltas;
  GenerationFinish finish;
};

class OutputProcessorTest : public ::testing::Test {
 protected:
  OutputProcessorTest()
      : tokenizer_(MakeTinyTokenizer({"STOP"})),
        sink_(std::make_shared<TestSink>()),
        processor_([this](const Closing& closing) {
          const char* const causes[] = {"stop", "scheduler", "reader"};
          sink_->calls.push_back(absl::StrCat("closing ", closing.id, " ",
                                              causes[static_cast<int>(closing.cause)], " ",
                                              closing.choice));
        }) {
    request_.prompt_token_ids = {1, 5, 6};
    request_.stopping.max_tokens = 10;
  }

  void Open(SequenceId id) {
    OutputOpen open;
    open.id = id;
    open.output = std::make_unique<RequestOutput>(request_, tokenizer_.get());
    open.sink = sink_;
    open.submitted_at = At(1000);
    processor_.Open(std::move(open));
  }
  void Token(SequenceId id, int32_t token, int at, std::optional<SequenceFinish> finish = {},
             int32_t choice = 0, const SequenceUsage& usage = {}) {
    processor_.Token({id, choice, {0, token, 0, {}}, At(1250), At(at), finish, usage});
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  GenerationRequest request_;
  std::shared_ptr<TestSink> sink_;
  OutputProcessor processor_;
};

constexpr SequenceFinish kLength = {FinishReason::kLength, -1};

TEST_F(OutputProcessorTest, ALastTokenEndsTheStreamWithCountsAndTimes) {
  Open(1);
  Token(1, 40, 1500);
  Token(1, kTinyEos, 2000, SequenceFinish{FinishReason::kStop, kTinyEos}, 0, {2, 3, 17});
  EXPECT_THAT(sink_->calls,
              ElementsAre("delta 0: 40", "delta 0: 2 last", "closing 1 scheduler -1", "finish"));
  EXPECT_TRUE(sink_->finish.status.ok());
  const ChoiceFinish& finish = sink_->last();
  EXPECT_EQ(finish.reason, FinishReason::kStop);
  EXPECT_EQ(finish.matched_token_id, kTinyEos);
  EXPECT_EQ(finish.prompt_tokens, 3);
  EXPECT_EQ(finish.completion_tokens, 2);
  EXPECT_DOUBLE_EQ(finish.queue_seconds, 0.25);
  EXPECT_DOUBLE_EQ(finish.first_token_seconds, 0.5);
  EXPECT_DOUBLE_EQ(finish.total_seconds, 1.0);
  EXPECT_EQ(finish.usage.cached_tokens, 2);
  EXPECT_EQ(finish.usage.num_preemptions, 3);
  EXPECT_EQ(finish.usage.dropped_pairs, 17);
  EXPECT_EQ(processor_.num_open(), 0);
}

TEST_F(OutputProcessorTest, MaxTokensEndWithLength) {
  Open(1);
  Token(1, 40, 1500, kLength);
  EXPECT_EQ(sink_->last().reason, FinishReason::kLength);
  EXPECT_EQ(sink_->last().matched_token_id, -1);
}

TEST_F(OutputProcessorTest, EachContinuationEndsOnceAndTheRequestWithTheLast) {
  request_.sampling.n = 3;
  Open(1);
  Token(1, 40, 1500, {}, 2);
  Token(1, 41, 1500, kLength, 0);
  Token(1, 42, 1600, kLength, 0);  // dropped: it has ended
  Token(1, 43, 1600, {}, 1);
  Token(1, 44, 1700, kLength, 2);
  EXPECT_EQ(processor_.num_open(), 1);
  Token(1, 45, 1800, kLength, 1);
  Token(1, 46, 1900, {}, 1);  // dropped: all is over
  EXPECT_THAT(sink_->calls,
              ElementsAre("delta 2: 40", "delta 0: 41 last", "delta 1: 43", "delta 2: 44 last",
                          "delta 1: 45 last", "closing 1 scheduler -1", "finish"));
  EXPECT_EQ(processor_.num_open(), 0);
}

TEST_F(OutputProcessorTest, EachContinuationHasItsOwnTimes) {
  request_.sampling.n = 2;
  Open(1);
  Token(1, 40, 1500, kLength, 0);
  Token(1, 41, 1600, {}, 1);
  Token(1, 42, 2000, kLength, 1);
  EXPECT_DOUBLE_EQ(sink_->deltas[0].finish->first_token_seconds, 0.5);
  EXPECT_DOUBLE_EQ(sink_->deltas[0].finish->total_seconds, 0.5);
  EXPECT_DOUBLE_EQ(sink_->deltas[2].finish->first_token_seconds, 0.6);
  EXPECT_DOUBLE_EQ(sink_->deltas[2].finish->total_seconds, 1.0);
}

TEST_F(OutputProcessorTest, WhatFollowsAMatchedStopStringIsDropped) {
  request_.stopping.stop_strings = {"STOP"};
  Open(1);
  Token(1, kStopPiece, 1500);
  Token(1, 40, 1600);
  processor_.Timeout({1, 0, At(1250), At(1650), {}});
  processor_.End({1, absl::CancelledError("late"), At(1250), At(1700)});
  EXPECT_THAT(sink_->calls, ElementsAre("delta 0: 259 last", "closing 1 stop 0",
                                        "closing 1 scheduler -1", "finish"));
  EXPECT_EQ(sink_->last().matched_stop_string, "STOP");
  EXPECT_EQ(sink_->last().reason, FinishReason::kStop);
  EXPECT_EQ(sink_->last().completion_tokens, 1);
  EXPECT_TRUE(sink_->finish.status.ok());
}

TEST_F(OutputProcessorTest, AStopStringEndsItsContinuationOnly) {
  request_.sampling.n = 2;
  request_.stopping.stop_strings = {"STOP"};
  Open(1);
  Token(1, kStopPiece, 1500, {}, 1);
  Token(1, 40, 1500, {}, 0);
  Token(1, 41, 1600, {}, 1);
  EXPECT_THAT(sink_->calls, ElementsAre("delta 1: 259 last", "closing 1 stop 1", "delta 0: 40"));
  EXPECT_EQ(processor_.num_open(), 1);
}

TEST_F(OutputProcessorTest, AStopStringAtTheLastTokenIsAStopThatTheSchedulerKnows) {
  request_.stopping.stop_strings = {"STOP"};
  Open(1);
  Token(1, kStopPiece, 1500, kLength);
  EXPECT_EQ(sink_->last().reason, FinishReason::kStop);
  EXPECT_EQ(sink_->last().matched_stop_string, "STOP");
  EXPECT_THAT(sink_->calls, ElementsAre("delta 0: 259 last", "closing 1 scheduler -1", "finish"));
}

TEST_F(OutputProcessorTest, ATimeLimitLetsHeldTextThroughAndEndsNormally) {
  request_.stopping.stop_strings = {"STOPPED"};
  Open(1);
  Token(1, kStopPiece, 1500);
  EXPECT_EQ(sink_->deltas[0].text, "") << "held back: it may become a stop string";
  processor_.Timeout({1, 0, At(1250), At(1700), {0, 1, 0}});
  EXPECT_THAT(sink_->calls, ElementsAre("delta 0: 259", "delta 0: none last",
                                        "closing 1 scheduler -1", "finish"));
  EXPECT_EQ(sink_->deltas[1].text, "STOP");
  EXPECT_THAT(sink_->deltas[1].token_ids, IsEmpty());
  EXPECT_EQ(sink_->last().reason, FinishReason::kTimeLimit);
  EXPECT_EQ(sink_->last().completion_tokens, 1);
  EXPECT_DOUBLE_EQ(sink_->last().total_seconds, 0.7);
  EXPECT_EQ(sink_->last().usage.num_preemptions, 1);
  EXPECT_TRUE(sink_->finish.status.ok());
}

TEST_F(OutputProcessorTest, ATimeLimitInTheQueueTellsOfThePromptAndOfTheWait) {
  request_.sampling.n = 2;
  Open(1);
  processor_.Timeout({1, 0, std::nullopt, At(1300), {}});
  processor_.Timeout({1, 1, std::nullopt, At(1300), {}});
  EXPECT_THAT(sink_->calls, ElementsAre("delta 0: none last", "delta 1: none last",
                                        "closing 1 scheduler -1", "finish"));
  EXPECT_EQ(sink_->deltas[0].prompt.value().prompt_tokens, 3);
  EXPECT_FALSE(sink_->deltas[1].prompt);
  EXPECT_DOUBLE_EQ(sink_->last().queue_seconds, 0.3);
  EXPECT_DOUBLE_EQ(sink_->last().first_token_seconds, 0.0);
  EXPECT_DOUBLE_EQ(sink_->last().total_seconds, 0.3);
}

TEST_F(OutputProcessorTest, ATimeLimitMayFindAStopStringInTheUnfinishedCodePoint) {
  request_.stopping.stop_strings = {"\xEF\xBF\xBD"};
  Open(1);
  Token(1, TinyByte(0xE2), 1500);
  processor_.Timeout({1, 0, At(1250), At(1700), {}});
  EXPECT_EQ(sink_->last().reason, FinishReason::kStop);
  EXPECT_EQ(sink_->last().matched_stop_string, "\xEF\xBF\xBD");
  EXPECT_EQ(sink_->calls.size(), 4u);
}

TEST_F(OutputProcessorTest, ReportsGoWithTheNextDeltaAndThoseOfTheEndedAreDropped) {
  request_.sampling.n = 2;
  request_.response.routed_experts = true;
  Open(1);
  ChunkReport report;
  report.routed_experts = {7, 8};
  processor_.Report({1, 1, report});
  Token(1, 40, 1500, kLength, 0);
  EXPECT_THAT(sink_->deltas[0].routed_experts, IsEmpty());
  Token(1, 41, 1500, {}, 1);
  EXPECT_THAT(sink_->deltas[1].routed_experts, ElementsAre(7, 8));
  processor_.Report({1, 0, report});
  processor_.Report({2, 0, report});
  Token(1, 41, 1500, kLength, 1);
  EXPECT_THAT(sink_->deltas[2].routed_experts, IsEmpty());
}

TEST_F(OutputProcessorTest, ASlowReaderIsCutOffOnce) {
  request_.sampling.n = 2;
  Open(1);
  sink_->reads = false;
  Token(1, 40, 1500);
  Token(1, 41, 1600);
  Token(1, 41, 1600, {}, 1);
  EXPECT_THAT(sink_->calls, ElementsAre("delta 0: 40", "closing 1 reader -1", "finish"));
  EXPECT_EQ(sink_->finish.status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(OutputProcessorTest, ARequestThatIsEndedEarlyEndsOnceWithAllItsContinuations) {
  request_.sampling.n = 2;
  Open(1);
  Token(1, 40, 1500, kLength, 1);
  processor_.End({1, absl::CancelledError("gone"), At(1250), At(1300)});
  Token(1, 41, 1500);
  EXPECT_THAT(sink_->calls, ElementsAre("delta 1: 40 last", "closing 1 scheduler -1", "finish"));
  EXPECT_EQ(sink_->finish.status.code(), absl::StatusCode::kCancelled);
}

using OutputProcessorDeathTest = OutputProcessorTest;

TEST_F(OutputProcessorDeathTest, AnEarlyEndHasAReason) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Open(1);
  EXPECT_DEATH(processor_.End({1, absl::OkStatus(), {}, At(1300)}), "without a reason");
}

}  // namespace
}  // namespace moed
