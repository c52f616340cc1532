// Every request ends exactly once, whenever it is cancelled, and gives everything back.
#include <latch>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine/engine_fixture.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class EngineCancelTest : public EngineFixture {
 protected:
  void ExpectEndedOnce(RecordingSink& sink, absl::StatusCode code) {
    EXPECT_EQ(sink.Wait().status.code(), code);
    RunAnother();
    ExpectAllBlocksFree();
    EXPECT_EQ(sink.num_finishes(), 1);
    EXPECT_EQ(sink.num_calls_after_finish(), 0);
  }
};

TEST_F(EngineCancelTest, BetweenPrefillAndFirstToken) {
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 5, 5));
  control_->WaitForLaunch(1);  // the whole prompt is computed, its first token is on the way
  engine_->Cancel("a", absl::CancelledError("gone"));
  control_->ReleaseAll();
  ExpectEndedOnce(*sink, absl::StatusCode::kCancelled);
  EXPECT_THAT(sink->tokens(), IsEmpty());
}

TEST_F(EngineCancelTest, BetweenTwoChunksOfThePrompt) {
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 130, 5));
  control_->WaitForLaunch(1);
  control_->ReleaseStep();
  control_->WaitForLaunch(2);
  engine_->Cancel("a", absl::CancelledError("gone"));
  control_->ReleaseAll();
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kCancelled);
  EXPECT_LE(control_->num_rows(), 96) << "the third chunk may have been planned, the fourth not";
  ExpectEndedOnce(*sink, absl::StatusCode::kCancelled);
}

TEST_F(EngineCancelTest, Twice) {
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 5, 5));
  control_->WaitForLaunch(1);
  engine_->Cancel("a", absl::AbortedError("first"));
  engine_->Cancel("a", absl::CancelledError("second"));
  control_->ReleaseAll();
  ExpectEndedOnce(*sink, absl::StatusCode::kAborted);
}

TEST_F(EngineCancelTest, AtTheLastToken) {
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 5, 2));
  control_->WaitForLaunch(1);
  control_->ReleaseStep();
  control_->WaitForLaunch(2);  // the last token is on the way
  sink->WaitForTokens(1);
  engine_->Cancel("a", absl::CancelledError("gone"));
  control_->ReleaseAll();
  ExpectEndedOnce(*sink, absl::StatusCode::kCancelled);
  EXPECT_EQ(sink->tokens().size(), 1u);
}

TEST_F(EngineCancelTest, AfterTheLastTokenWasCommitted) {
  StartEngine();
  const auto sink = std::make_shared<RecordingSink>();
  // The output thread is handing out the last token: the engine is through with the request.
  sink->on_delta = [this](size_t num_tokens) {
    if (num_tokens == 3) engine_->Cancel("a", absl::CancelledError("late"));
    return true;
  };
  ASSERT_TRUE(engine_->Submit(Request("a", 5, 3), sink).ok());
  ExpectEndedOnce(*sink, absl::StatusCode::kOk);
  EXPECT_EQ(sink->tokens().size(), 3u);
}

TEST_F(EngineCancelTest, AfterTheEnd) {
  StartEngine();
  const auto sink = Submit(Request("a", 5, 3));
  sink->Wait();
  engine_->Cancel("a", absl::CancelledError("late"));
  engine_->Cancel("never seen", absl::CancelledError("late"));
  ExpectEndedOnce(*sink, absl::StatusCode::kOk);
}

TEST_F(EngineCancelTest, LateByItsOwnerDoesNotHitTheNextRequestOfTheId) {
  StartEngine();
  const auto first = std::make_shared<RecordingSink>();
  const auto second = std::make_shared<RecordingSink>();
  // The first request's owner has not been told of its end, and the id is taken again.
  first->on_finish = [&] {
    control_->Hold();
    EXPECT_TRUE(engine_->Submit(Request("a", 5, 3), second).ok());
    engine_->CancelOwn("a", first.get(), absl::CancelledError("late"));
  };
  ASSERT_TRUE(engine_->Submit(Request("a", 5, 3), first).ok());
  first->Wait();
  control_->ReleaseAll();
  ExpectEndedOnce(*second, absl::StatusCode::kOk);
  EXPECT_EQ(second->tokens().size(), 3u);
}

TEST_F(EngineCancelTest, ByItsOwner) {
  StartEngine();
  control_->Hold();
  const auto sink = Submit(Request("a", 5, 5));
  control_->WaitForLaunch(1);
  engine_->CancelOwn("a", sink.get(), absl::CancelledError("gone"));
  control_->ReleaseAll();
  ExpectEndedOnce(*sink, absl::StatusCode::kCancelled);
}

TEST_F(EngineCancelTest, InTheQueueWithoutWork) {
  num_ranks_ = 1;
  rank_options_.max_sequences = 1;
  StartEngine();
  control_->Hold();
  const auto running = Submit(Request("running", 5, 2));
  control_->WaitForLaunch(1);
  const auto waiting = Submit(Request("waiting", 11, 2));
  engine_->Cancel("waiting", absl::CancelledError("gone"));
  control_->ReleaseStep();
  EXPECT_EQ(waiting->Wait().status.code(), absl::StatusCode::kCancelled)
      << "ends while the other one still runs";
  EXPECT_EQ(running->num_finishes(), 0);
  control_->ReleaseAll();
  running->Wait();
  EXPECT_EQ(control_->num_rows(), 6);
  ExpectEndedOnce(*waiting, absl::StatusCode::kCancelled);
}

TEST_F(EngineCancelTest, ADeadlineThatHasPassedNeedsNoWork) {
  StartEngine();
  GenerationRequest request = Request("a", 5, 5);
  request.deadline = TimePoint(std::chrono::milliseconds(999));
  const auto sink = Submit(request);
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(control_->num_launched(), 0);
  ExpectEndedOnce(*sink, absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EngineCancelTest, ADeadlineInTheQueueNeedsNoWork) {
  num_ranks_ = 1;
  rank_options_.max_sequences = 1;
  StartEngine();
  control_->Hold();
  const auto running = Submit(Request("running", 5, 2));
  control_->WaitForLaunch(1);
  GenerationRequest request = Request("waiting", 11, 2);
  request.deadline = TimePoint(std::chrono::milliseconds(1500));
  const auto waiting = Submit(request);
  AdvanceClock(500);
  control_->ReleaseStep();
  EXPECT_EQ(waiting->Wait().status.code(), absl::StatusCode::kDeadlineExceeded);
  control_->ReleaseAll();
  EXPECT_TRUE(running->Wait().status.ok());
  EXPECT_EQ(control_->num_rows(), 6);
  ExpectEndedOnce(*waiting, absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EngineCancelTest, ADeadlineInMidDecode) {
  StartEngine();
  control_->Hold();
  GenerationRequest request = Request("a", 5, 50);
  request.deadline = TimePoint(std::chrono::milliseconds(1500));
  const auto sink = Submit(request);
  control_->WaitForLaunch(1);
  control_->ReleaseStep();
  control_->WaitForLaunch(2);
  AdvanceClock(500);
  control_->ReleaseStep();
  control_->ReleaseAll();
  sink->Wait();
  EXPECT_LE(control_->num_launched(), 3) << "no step is planned after the deadline";
  EXPECT_LE(sink->tokens().size(), 3u);
  ExpectEndedOnce(*sink, absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EngineCancelTest, AFailedRankEndsEveryStreamOnceWithoutTellingOfTheInside) {
  num_ranks_ = 1;
  rank_options_.max_sequences = 1;
  const absl::Status fault = absl::UnavailableError("rank 3, layer 7: all-to-all timed out");
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::latch told(1);
  absl::Status reported;
  options_.on_fault = [&](const absl::Status& status) {
    for (const auto& sink : sinks) EXPECT_EQ(sink->num_finishes(), 1) << "told before its sinks";
    reported = status;
    told.count_down();
  };
  StartEngine();
  control_->Hold();
  sinks = {Submit(Request("a", 3, 9)), Submit(Request("b", 3, 9)), Submit(Request("c", 3, 9))};
  control_->WaitForLaunch(1);
  control_->Fail(fault);
  told.wait();
  EXPECT_EQ(reported, fault);
  for (const auto& sink : sinks) {
    const absl::Status status = sink->Wait().status;
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("layer")));
    EXPECT_EQ(sink->num_finishes(), 1);
  }
  EXPECT_EQ(engine_->Stats().fault, fault);
  EXPECT_EQ(TrySubmit(Request("late", 1, 1)).code(), absl::StatusCode::kUnavailable);
  ExpectAllBlocksFree();
}

TEST_F(EngineCancelTest, TenThousandStartsAndCancelsLeaveNothingBehind) {
  constexpr int kNumThreads = 4;
  constexpr int kNumRequestsPerThread = 2500;
  num_ranks_ = 3;
  options_.max_queued_requests = 64;
  StartEngine();
  std::vector<std::vector<std::shared_ptr<RecordingSink>>> sinks(kNumThreads);
  std::vector<std::thread> clients;
  for (int client = 0; client < kNumThreads; ++client) {
    clients.emplace_back([&, client] {
      std::mt19937_64 random(client + 1);
      const auto between = [&](int low, int high) {
        return std::uniform_int_distribution<int>(low, high)(random);
      };
      for (int i = 0; i < kNumRequestsPerThread; ++i) {
        const std::string id = absl::StrCat(client, "-", i);
        const auto sink = std::make_shared<RecordingSink>();
        const int cancel_at = between(0, 12);
        sink->on_delta = [this, id, cancel_at](size_t num_tokens) {
          if (num_tokens == static_cast<size_t>(cancel_at)) {
            engine_->Cancel(id, absl::CancelledError("by its reader"));
          }
          return num_tokens != 11;
        };
        const GenerationRequest request = Request(id, between(1, 60), between(1, 12), i);
        while (!engine_->Submit(request, sink).ok()) {
          // The queue is full: one's own last request is in it, or everybody else's are.
          if (sinks[client].empty()) {
            std::this_thread::yield();
          } else {
            sinks[client].back()->Wait();
          }
        }
        sinks[client].push_back(sink);
        if (between(0, 3) == 0) engine_->Cancel(id, absl::CancelledError("at once"));
        if (between(0, 3) == 0 && i > 0) {
          engine_->Cancel(absl::StrCat(client, "-", between(0, i)), absl::CancelledError("any"));
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (const auto& of_client : sinks) {
    for (const auto& sink : of_client) sink->Wait();
  }
  RunAnother();
  ExpectAllBlocksFree();
  for (const auto& of_client : sinks) {
    for (const auto& sink : of_client) {
      EXPECT_EQ(sink->num_finishes(), 1);
      EXPECT_EQ(sink->num_calls_after_finish(), 0);
    }
  }
}

}  // namespace
}  // namespace moed
