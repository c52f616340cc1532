// An engine over fake ranks and a clock that the test turns.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/engine/engine_impl.h"
#include "tests/runtime/engine/recording_sink.h"
#include "tests/support/fake_worker_group.h"

namespace moed {

class EngineFixture : public ::testing::Test {
 protected:
  // Before StartEngine a test may change these.
  int num_ranks_ = 2;
  FakeRankOptions rank_options_;
  EngineOptions options_;
  const Tokenizer* tokenizer_ = nullptr;

  void StartEngine() {
    control_ = std::make_shared<FakeWorkerControl>();
    options_.now = [this] { return TimePoint(std::chrono::milliseconds(now_ms_.load())); };
    auto group = std::make_unique<FakeWorkerGroup>(num_ranks_, rank_options_, control_);
    auto engine = MakeEngine(options_, std::move(group),
                             FakeWorkerGroup::Info(num_ranks_, rank_options_), tokenizer_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = std::move(*engine);
  }
  void TearDown() override {
    if (control_ == nullptr) return;
    control_->ReleaseAll();
    engine_.reset();
    EXPECT_EQ(control_->breach(), "");
  }

  static GenerationRequest Request(const std::string& id, int32_t num_prompt_tokens,
                                   int32_t max_tokens, uint64_t seed = 1) {
    GenerationRequest request;
    request.request_id = id;
    for (int32_t i = 0; i < num_prompt_tokens; ++i) request.prompt_token_ids.push_back(i % 100);
    request.sampling.seed = seed;
    request.stopping.max_tokens = max_tokens;
    request.response.text = false;
    return request;
  }

  std::shared_ptr<RecordingSink> Submit(GenerationRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    const absl::Status status = engine_->Submit(std::move(request), sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }
  absl::Status TrySubmit(GenerationRequest request) {
    return engine_->Submit(std::move(request), std::make_shared<RecordingSink>());
  }
  void AdvanceClock(int milliseconds) { now_ms_ += milliseconds; }

  // Runs a small request to its end: whatever was to be ended before it has been.
  void RunAnother() { EXPECT_TRUE(Submit(Request("another", 1, 1))->Wait().status.ok()); }
  void ExpectAllBlocksFree() {
    const EngineStats stats = engine_->Stats();
    EXPECT_EQ(stats.free_kv_blocks, stats.total_kv_blocks);
    EXPECT_EQ(stats.requests_running, 0);
    EXPECT_EQ(stats.requests_waiting, 0);
  }

  std::shared_ptr<FakeWorkerControl> control_;
  std::unique_ptr<Engine> engine_;
  std::atomic<int> now_ms_ = 1000;
};

}  // namespace moed
