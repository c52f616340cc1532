#include "server/observe/observed_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/errors/error_details.h"
#include "server/observe/observer_list.h"

namespace moed {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;

class InnerSink : public GenerationSink {
 public:
  explicit InnerSink(std::vector<std::string>* events) : events_(events) {}

  bool OnDelta(GenerationDelta delta) override {
    events_->push_back(absl::StrCat("delta ", delta.token_ids.size()));
    return takes_more;
  }
  void OnFinish(const GenerationFinish& finish) override {
    events_->push_back(absl::StrCat("finish ", absl::StatusCodeToString(finish.status.code())));
  }

  bool takes_more = true;

 private:
  std::vector<std::string>* const events_;
};

class RecordingObserver : public RequestObserver {
 public:
  explicit RecordingObserver(std::vector<std::string>* events) : events_(events) {}

  void OnAdmitted() override { events_->push_back("admitted"); }
  void OnFirstToken(std::chrono::duration<double> since_submit) override {
    events_->push_back(absl::StrCat("first ", since_submit.count()));
  }
  void OnInterToken(std::chrono::duration<double> each, int32_t tokens) override {
    events_->push_back(absl::StrCat("inter ", each.count(), " x ", tokens));
  }
  void OnTokens(int32_t tokens) override { events_->push_back(absl::StrCat("tokens ", tokens)); }
  void OnEnd(const RequestRecord& record) override {
    events_->push_back("end");
    records.push_back(record);
  }

  std::vector<RequestRecord> records;

 private:
  std::vector<std::string>* const events_;
};

class ObservedSinkTest : public ::testing::Test {
 protected:
  ObservedSink& sink() {
    if (sink_ == nullptr) {
      RequestRecord record;
      record.method = "StreamGenerate";
      record.request_id = "r";
      record.client = "alice";
      sink_ = std::make_shared<ObservedSink>(inner_, &observer_, record, now_ - milliseconds(250),
                                             [this] { return now_; });
    }
    return *sink_;
  }
  // The one record there must be.
  const RequestRecord& record() const {
    EXPECT_EQ(observer_.records.size(), 1);
    return observer_.records.at(0);
  }
  static GenerationDelta Tokens(int count, int32_t choice = 0) {
    GenerationDelta delta;
    delta.choice = choice;
    delta.token_ids.assign(count, 7);
    return delta;
  }
  static GenerationDelta WithPrompt(GenerationDelta delta, int32_t prompt, int32_t cached) {
    delta.prompt.emplace();
    delta.prompt->prompt_tokens = prompt;
    delta.prompt->cached_tokens = cached;
    return delta;
  }
  static GenerationDelta Last(GenerationDelta delta, FinishReason reason, int32_t completion) {
    delta.finish.emplace();
    delta.finish->reason = reason;
    delta.finish->completion_tokens = completion;
    delta.finish->queue_seconds = 0.5;
    delta.finish->usage.num_preemptions = 1;
    return delta;
  }

  TimePoint now_{std::chrono::hours(1)};
  std::vector<std::string> events_;
  std::shared_ptr<InnerSink> inner_ = std::make_shared<InnerSink>(&events_);
  RecordingObserver observer_{&events_};
  std::shared_ptr<ObservedSink> sink_;
};

TEST_F(ObservedSinkTest, TellsOfFirstTokenTimesBetweenTokensAndEndBeforeThePassingOn) {
  sink().Admitted();
  now_ += milliseconds(500);
  EXPECT_TRUE(sink().OnDelta(WithPrompt(Tokens(1), 5, 4)));
  now_ += milliseconds(250);
  EXPECT_TRUE(sink().OnDelta(Tokens(2)));
  now_ += milliseconds(125);
  EXPECT_TRUE(sink().OnDelta(Last(Tokens(1), FinishReason::kLength, 4)));
  now_ += milliseconds(125);
  sink().OnFinish({absl::OkStatus()});

  EXPECT_THAT(events_, ElementsAre("admitted", "first 0.5", "tokens 1", "delta 1",  //
                                   "inter 0.125 x 2", "tokens 2", "delta 2",        //
                                   "inter 0.125 x 1", "tokens 1", "delta 1",        //
                                   "end", "finish OK"));
  EXPECT_EQ(record().request_id, "r");
  EXPECT_EQ(record().client, "alice");
  EXPECT_TRUE(record().status.ok());
  EXPECT_TRUE(record().admitted);
  EXPECT_STREQ(record().finish_reason, "length");
  EXPECT_EQ(record().num_choices, 1);
  EXPECT_EQ(record().prompt_tokens, 5);
  EXPECT_EQ(record().cached_tokens, 4);
  EXPECT_EQ(record().completion_tokens, 4);
  EXPECT_EQ(record().queue_seconds, 0.5);
  EXPECT_EQ(record().first_token_seconds, 0.5);
  EXPECT_EQ(record().total_seconds, 1.25);
  EXPECT_EQ(record().preemptions, 1);
  EXPECT_FALSE(record().client_cancelled);
  EXPECT_FALSE(record().slow_reader);
}

TEST_F(ObservedSinkTest, ContinuationsHaveTheirOwnTimesAndTheirTokensAddUp) {
  sink().OnDelta(WithPrompt(Tokens(1, 0), 5, 0));
  now_ += milliseconds(1000);
  sink().OnDelta(Tokens(1, 1));
  now_ += milliseconds(1000);
  sink().OnDelta(Last(Tokens(1, 0), FinishReason::kLength, 2));
  sink().OnDelta(Last(Tokens(1, 1), FinishReason::kStop, 2));
  sink().OnFinish({absl::OkStatus()});

  EXPECT_THAT(events_, ElementsAre("admitted", "first 0", "tokens 1", "delta 1",  //
                                   "tokens 1", "delta 1",                         //
                                   "inter 2 x 1", "tokens 1", "delta 1",          //
                                   "inter 1 x 1", "tokens 1", "delta 1",          //
                                   "end", "finish OK"));
  EXPECT_EQ(record().num_choices, 2);
  EXPECT_EQ(record().completion_tokens, 4);
  EXPECT_STREQ(record().finish_reason, "stop");
}

TEST_F(ObservedSinkTest, AnEchoedPromptIsNotGenerated) {
  sink().OnDelta(WithPrompt(Tokens(6), 5, 0));
  sink().OnDelta(Tokens(6, 1));
  sink().OnDelta(Last(Tokens(0), FinishReason::kTimeLimit, 1));
  sink().OnFinish({absl::CancelledError("gone")});
  EXPECT_EQ(record().completion_tokens, 2);
}

TEST_F(ObservedSinkTest, AnEchoAloneIsNoFirstToken) {
  sink().OnDelta(Last(WithPrompt(Tokens(5), 5, 0), FinishReason::kTimeLimit, 0));
  sink().OnFinish({absl::OkStatus()});
  EXPECT_EQ(record().completion_tokens, 0);
  EXPECT_EQ(record().first_token_seconds, 0);
  EXPECT_STREQ(record().finish_reason, "time_limit");
  EXPECT_THAT(events_, ElementsAre("admitted", "delta 5", "end", "finish OK"));
}

TEST_F(ObservedSinkTest, AdmittedIsToldOnceHoweverLateItComes) {
  sink().OnFinish({absl::UnavailableError("draining")});
  sink().Admitted();
  EXPECT_THAT(events_, ElementsAre("admitted", "end", "finish UNAVAILABLE"));
}

TEST_F(ObservedSinkTest, AReaderThatTakesNoMoreIsASlowReader) {
  inner_->takes_more = false;
  EXPECT_FALSE(sink().OnDelta(Tokens(1)));
  sink().OnFinish({absl::ResourceExhaustedError("the reader is too slow")});
  EXPECT_TRUE(record().slow_reader);
  EXPECT_FALSE(record().client_cancelled);
  EXPECT_TRUE(absl::IsResourceExhausted(record().status));
  EXPECT_EQ(record().reason, "SLOW_READER");
}

TEST_F(ObservedSinkTest, AReaderThatWasFoundStuckIsASlowOneThoughNoDeltaCame) {
  sink().OnFinish({WithReason(absl::ResourceExhaustedError("stuck"), kReasonSlowReader)});
  EXPECT_TRUE(record().slow_reader);
  EXPECT_EQ(record().reason, "SLOW_READER");
}

TEST_F(ObservedSinkTest, AReaderThatHasGoneIsNotASlowOne) {
  inner_->takes_more = false;
  sink().ClientGone();
  EXPECT_FALSE(sink().OnDelta(Tokens(1)));
  sink().OnFinish({absl::ResourceExhaustedError("the reader is too slow")});
  EXPECT_FALSE(record().slow_reader);
  EXPECT_TRUE(record().client_cancelled);
  EXPECT_TRUE(absl::IsCancelled(record().status));
}

TEST_F(ObservedSinkTest, WhoseDeadlineHasPassedIsNeitherSlowNorCancelled) {
  inner_->takes_more = false;
  sink().ClientGone();
  EXPECT_FALSE(sink().OnDelta(Tokens(1)));
  sink().OnFinish({absl::DeadlineExceededError("the call's deadline has passed")});
  EXPECT_FALSE(record().slow_reader);
  EXPECT_FALSE(record().client_cancelled);
  EXPECT_TRUE(absl::IsDeadlineExceeded(record().status));
}

TEST_F(ObservedSinkTest, ACancelledRequestHasNoFinishReasonThoughAContinuationEnded) {
  sink().OnDelta(Last(Tokens(1), FinishReason::kStop, 1));
  sink().OnFinish({absl::CancelledError("the client has cancelled")});
  EXPECT_STREQ(record().finish_reason, "");
  EXPECT_TRUE(record().client_cancelled);
}

TEST_F(ObservedSinkTest, TheReasonOfAnErrorIsKept) {
  sink().OnFinish({WithReason(absl::UnavailableError("a rank failed"), kReasonRankFailed)});
  EXPECT_EQ(record().reason, "RANK_FAILED");
}

TEST(ObserverListTest, TellsEachInOrder) {
  std::vector<std::string> events;
  RecordingObserver first(&events);
  RecordingObserver second(&events);
  ObserverList list({&first, &second});
  list.OnAdmitted();
  list.OnFirstToken(milliseconds(500));
  list.OnInterToken(milliseconds(250), 3);
  list.OnTokens(3);
  list.OnEnd({});
  EXPECT_THAT(events, ElementsAre("admitted", "admitted", "first 0.5", "first 0.5",  //
                                  "inter 0.25 x 3", "inter 0.25 x 3", "tokens 3",    //
                                  "tokens 3", "end", "end"));
  EXPECT_EQ(first.records.size(), 1);
  EXPECT_EQ(second.records.size(), 1);
}

}  // namespace
}  // namespace moed
