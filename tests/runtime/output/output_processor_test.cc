#include "runtime/output/output_processor.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {
namespace {

using ::testing::ElementsAre;

TimePoint At(int milliseconds) { return TimePoint(std::chrono::milliseconds(milliseconds)); }

// Writes down what it is told.
class TestSink : public GenerationSink {
 public:
  bool OnDelta(GenerationDelta delta) override {
    calls.push_back(absl::StrCat("delta ", delta.token_ids.at(0)));
    return reads;
  }
  void OnFinish(const GenerationFinish& told) override {
    calls.push_back("finish");
    finish = told;
  }

  bool reads = true;
  std::vector<std::string> calls;
  GenerationFinish finish;
};

class OutputProcessorTest : public ::testing::Test {
 protected:
  OutputProcessorTest()
      : tokenizer_(MakeTinyTokenizer({"STOP"})),
        sink_(std::make_shared<TestSink>()),
        processor_([this](SequenceId id, ClosingCause cause) {
          closings_.push_back(absl::StrCat(id, " ", static_cast<int>(cause)));
          sink_->calls.push_back("closing");
        }) {}

  void Open(SequenceId id, const std::vector<std::string>& stop_strings = {}) {
    GenerationRequest request;
    request.prompt_token_ids = {1, 5, 6};
    request.stopping.max_tokens = 10;
    request.stopping.stop_strings = stop_strings;
    OutputOpen open;
    open.id = id;
    open.output = std::make_unique<SequenceOutput>(request, tokenizer_.get());
    open.sink = sink_;
    open.num_prompt_tokens = 3;
    open.submitted_at = At(1000);
    processor_.Open(std::move(open));
  }
  void Token(SequenceId id, int32_t token, int at, std::optional<SequenceFinish> finish = {}) {
    processor_.Token({id, {0, token, 0, {}}, At(1250), At(at), finish});
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::shared_ptr<TestSink> sink_;
  std::vector<std::string> closings_;
  OutputProcessor processor_;
};

TEST_F(OutputProcessorTest, ALastTokenEndsTheStreamWithCountsAndTimes) {
  Open(1);
  Token(1, 40, 1500);
  Token(1, kTinyEos, 2000, SequenceFinish{FinishReason::kStop, kTinyEos});
  EXPECT_THAT(sink_->calls, ElementsAre("delta 40", "delta 2", "closing", "finish"));
  EXPECT_THAT(closings_, ElementsAre("1 0"));
  const GenerationFinish& finish = sink_->finish;
  EXPECT_TRUE(finish.status.ok());
  EXPECT_EQ(finish.reason, FinishReason::kStop);
  EXPECT_EQ(finish.matched_token_id, kTinyEos);
  EXPECT_EQ(finish.prompt_tokens, 3);
  EXPECT_EQ(finish.completion_tokens, 2);
  EXPECT_DOUBLE_EQ(finish.queue_seconds, 0.25);
  EXPECT_DOUBLE_EQ(finish.first_token_seconds, 0.5);
  EXPECT_DOUBLE_EQ(finish.total_seconds, 1.0);
  EXPECT_EQ(processor_.num_open(), 0);
}

TEST_F(OutputProcessorTest, MaxTokensEndWithLength) {
  Open(1);
  Token(1, 40, 1500, SequenceFinish{FinishReason::kLength, -1});
  EXPECT_EQ(sink_->finish.reason, FinishReason::kLength);
  EXPECT_EQ(sink_->finish.matched_token_id, -1);
}

TEST_F(OutputProcessorTest, WhatFollowsAMatchedStopStringIsDropped) {
  Open(1, {"STOP"});
  Token(1, kTinyFirstPiece, 1500);
  Token(1, 40, 1600);
  processor_.End({1, absl::CancelledError("late"), At(1250), At(1700)});
  EXPECT_THAT(sink_->calls, ElementsAre("delta 259", "closing", "finish"));
  EXPECT_THAT(closings_, ElementsAre("1 1"));
  EXPECT_EQ(sink_->finish.matched_stop_string, "STOP");
  EXPECT_EQ(sink_->finish.reason, FinishReason::kStop);
  EXPECT_EQ(sink_->finish.completion_tokens, 1);
}

TEST_F(OutputProcessorTest, AStopStringAtTheLastTokenIsAStopThatTheSchedulerKnows) {
  Open(1, {"STOP"});
  Token(1, kTinyFirstPiece, 1500, SequenceFinish{FinishReason::kLength, -1});
  EXPECT_EQ(sink_->finish.reason, FinishReason::kStop);
  EXPECT_EQ(sink_->finish.matched_stop_string, "STOP");
  EXPECT_THAT(closings_, ElementsAre("1 0"));
}

TEST_F(OutputProcessorTest, ASlowReaderIsCutOffOnce) {
  Open(1);
  sink_->reads = false;
  Token(1, 40, 1500);
  Token(1, 41, 1600);
  EXPECT_THAT(sink_->calls, ElementsAre("delta 40", "closing", "finish"));
  EXPECT_THAT(closings_, ElementsAre("1 2"));
  EXPECT_EQ(sink_->finish.status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(OutputProcessorTest, ARequestThatNeverRanHasWaitedAllItsTime) {
  Open(1);
  processor_.End({1, absl::DeadlineExceededError("late"), std::nullopt, At(3000)});
  EXPECT_THAT(sink_->calls, ElementsAre("closing", "finish"));
  EXPECT_EQ(sink_->finish.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_DOUBLE_EQ(sink_->finish.queue_seconds, 2.0);
  EXPECT_DOUBLE_EQ(sink_->finish.first_token_seconds, 0.0);
  EXPECT_DOUBLE_EQ(sink_->finish.total_seconds, 2.0);
}

TEST_F(OutputProcessorTest, CancelledBetweenPrefillAndFirstToken) {
  Open(1);
  processor_.End({1, absl::CancelledError("gone"), At(1250), At(1300)});
  Token(1, 40, 1500);
  EXPECT_THAT(sink_->calls, ElementsAre("closing", "finish"));
  EXPECT_DOUBLE_EQ(sink_->finish.queue_seconds, 0.25);
}

}  // namespace
}  // namespace moed
