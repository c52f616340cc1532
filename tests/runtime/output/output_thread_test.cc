#include "runtime/output/output_thread.h"

#include <algorithm>
#include <atomic>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace moed {
namespace {

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
  open.output = std::make_unique<SequenceOutput>(request, nullptr);
  open.sink = std::move(sink);
  return open;
}

std::vector<SequenceToken> OneToken(SequenceId id) { return {{id, {0, 5, 0, {}}, {}, {}, {}}}; }

TEST(OutputThreadTest, StopProcessesWhatWasPosted) {
  const auto sink = std::make_shared<CountingSink>();
  OutputThread output([](SequenceId, ClosingCause) {});
  output.PostOpen(MakeOpen(1, sink));
  for (int i = 0; i < 1000; ++i) output.PostTokens(OneToken(1));
  output.PostEnds({{1, absl::CancelledError("gone"), {}, {}}});
  output.Stop();
  EXPECT_EQ(sink->num_deltas, 1000);
  EXPECT_EQ(sink->num_finishes, 1);
}

TEST(OutputThreadTest, FlushWaitsForWhatWasPosted) {
  const auto sink = std::make_shared<CountingSink>();
  OutputThread output([](SequenceId, ClosingCause) {});
  output.PostOpen(MakeOpen(1, sink));
  output.PostTokens(OneToken(1));
  output.Flush();
  EXPECT_EQ(sink->num_deltas, 1);
}

TEST(OutputThreadTest, TheEngineDoesNotRunAheadWithoutBound) {
  std::latch gate(1);
  const auto sink = std::make_shared<CountingSink>();
  sink->gate = &gate;
  std::atomic<int> num_posted = 0;
  OutputThread output([](SequenceId, ClosingCause) {});
  output.PostOpen(MakeOpen(1, sink));
  constexpr int kNumSteps = 4 * OutputThread::kMaxQueuedSteps;
  int most_ahead = 0;
  std::latch reached_bound(OutputThread::kMaxQueuedSteps);
  std::thread engine([&] {
    for (int i = 0; i < kNumSteps; ++i) {
      output.PostTokens(OneToken(1));
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
