#include "runtime/output/output_thread.h"

#include <algorithm>
#include <atomic>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::ElementsAre;

class CountingSink : public GenerationSink {
 public:
  bool OnDelta(GenerationDelta) override {
    if (gate != nullptr) gate->wait();
    ++num_deltas;
    return true;
  }
  void OnFinish(const GenerationFinish&) override { ++num_finishes; }

  std::latch* gate = nullptr;
  std::atomic<int> num_deltas = 0;
  std::atomic<int> num_finishes = 0;
};

OutputOpen MakeOpen(SequenceId id, std::shared_ptr<GenerationSink> sink) {
  GenerationRequest request;
  request.prompt_token_ids = {1};
  request.response.text = false;
  OutputOpen open;
  open.id = id;
  open.output = std::make_unique<RequestOutput>(request, nullptr);
  open.sink = std::move(sink);
  return open;
}

StepOutput OneToken(SequenceId id) {
  StepOutput step;
  step.tokens.push_back({id, 0, {0, 5, 0, {}}, {}, {}, {}, {}});
  return step;
}

TEST(OutputThreadTest, StopProcessesWhatWasPosted) {
  const auto sink = std::make_shared<CountingSink>();
  OutputThread output([](const Closing&) {});
  output.PostOpen(MakeOpen(1, sink));
  for (int i = 0; i < 1000; ++i) output.PostStep(OneToken(1));
  output.PostEnds({{1, absl::CancelledError(), {}, {}}});
  output.Stop();
  EXPECT_EQ(sink->num_deltas, 1000);
  EXPECT_EQ(sink->num_finishes, 1);
}

TEST(OutputThreadTest, FlushWaitsForWhatWasPosted) {
  const auto sink = std::make_shared<CountingSink>();
  OutputThread output([](const Closing&) {});
  output.PostOpen(MakeOpen(1, sink));
  output.PostStep(OneToken(1));
  output.Flush();
  EXPECT_EQ(sink->num_deltas, 1);
}

TEST(OutputThreadTest, WhatIsPostedIsProcessedInItsOrderAndReportsBeforeTokens) {
  std::vector<std::string> calls;
  class WritingSink : public GenerationSink {
   public:
    explicit WritingSink(std::vector<std::string>* calls) : calls_(*calls) {}
    bool OnDelta(GenerationDelta delta) override {
      calls_.push_back(absl::StrCat(delta.choice, ": ", delta.token_ids.size(), " tokens, ",
                                    delta.routed_experts.size(), " experts"));
      return true;
    }
    void OnFinish(const GenerationFinish&) override { calls_.push_back("finish"); }

   private:
    std::vector<std::string>& calls_;
  };
  GenerationRequest request;
  request.prompt_token_ids = {1};
  request.sampling.n = 2;
  request.response.text = false;
  request.response.routed_experts = true;
  OutputThread output([](const Closing&) {});
  output.PostOpen({1,
                   std::make_unique<RequestOutput>(request, nullptr),
                   std::make_shared<WritingSink>(&calls),
                   {}});
  StepOutput step = OneToken(1);
  ChunkReport report;
  report.routed_experts = {1, 2, 3};
  step.reports.push_back({1, 0, report});
  output.PostStep(std::move(step));
  output.PostTimeouts({{1, 0, {}, {}, {}}});
  output.PostEnds({{1, absl::CancelledError(), {}, {}}});
  output.Stop();
  EXPECT_THAT(calls, ElementsAre("0: 1 tokens, 3 experts", "0: 0 tokens, 0 experts", "finish"));
}

TEST(OutputThreadTest, TheEngineDoesNotRunAheadWithoutBound) {
  std::latch gate(1);
  const auto sink = std::make_shared<CountingSink>();
  sink->gate = &gate;
  std::atomic<int> num_posted = 0;
  OutputThread output([](const Closing&) {});
  output.PostOpen(MakeOpen(1, sink));
  constexpr int kNumSteps = 4 * OutputThread::kMaxQueuedSteps;
  int most_ahead = 0;
  std::latch reached_bound(OutputThread::kMaxQueuedSteps);
  std::thread engine([&] {
    for (int i = 0; i < kNumSteps; ++i) {
      output.PostStep(OneToken(1));
      ++num_posted;
      most_ahead = std::max(most_ahead, num_posted - sink->num_deltas);
      if (i < OutputThread::kMaxQueuedSteps) reached_bound.count_down();
    }
  });
  reached_bound.wait();
  EXPECT_LE(num_posted, OutputThread::kMaxQueuedSteps);
  gate.count_down();
  engine.join();
  output.Stop();
  EXPECT_LE(most_ahead, OutputThread::kMaxQueuedSteps);
  EXPECT_EQ(sink->num_deltas, kNumSteps);
}

}  // namespace
}  // namespace moed
