// Ranks that compute nothing.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/worker_group.h"
#include "tests/bench/engine_stopwatch.h"

namespace moed {

struct StopwatchGroupOptions {
  WorkerGroupInfo info;
  int32_t num_sequences = 0;               // a step is steady when each of them decodes a token
  std::chrono::microseconds step_time{0};  // that a rank sleeps
  bool has_threads = true;                 // one a rank; else Await does their work
  int32_t num_logprobs = -1;
};

// Every rank answers with tokens that do not matter, and counts of the model's size.
class StopwatchWorkerGroup final : public WorkerGroup {
 public:
  StopwatchWorkerGroup(const StopwatchGroupOptions& options,
                       std::shared_ptr<EngineStopwatch> stopwatch)
      : options_(options),
        stopwatch_(std::move(stopwatch)),
        batches_(options.info.num_ranks),
        results_(options.info.num_ranks) {
    if (!options.has_threads) return;
    for (int rank = 0; rank < options.info.num_ranks; ++rank) {
      threads_.emplace_back([this, rank] { RunRank(rank); });
    }
  }
  ~StopwatchWorkerGroup() override { Stop(); }

  absl::StatusOr<WorkerGroupInfo> Start(const RankProgressCallback&) override {
    return options_.info;
  }
  absl::Status Launch(std::vector<RankBatch> batches) override {
    int32_t num_decodes = 0;
    bool is_steady = true;
    for (const RankBatch& batch : batches) {
      is_steady = is_steady && batch.admitted.empty();
      num_decodes += batch.num_rows();
    }
    stopwatch_->LaunchBegins(is_steady && num_decodes == options_.num_sequences);
    {
      MutexLock lock(mutex_);
      batches_ = std::move(batches);
      ++num_launched_;
      num_running_ = static_cast<int>(threads_.size());
      launched_.NotifyAll();
    }
    stopwatch_->LaunchEnds();
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<RankResult>> Await() override {
    stopwatch_->AwaitBegins();
    std::vector<RankResult> results(batches_.size());
    if (threads_.empty()) {
      for (size_t rank = 0; rank < results.size(); ++rank) results[rank] = Step(batches_[rank]);
    } else {
      MutexLock lock(mutex_);
      while (num_running_ > 0) finished_.Wait(mutex_);
      results.swap(results_);
    }
    double busy = 0;
    for (const RankResult& result : results) busy = std::max(busy, 1e6 * result.compute_seconds);
    stopwatch_->AwaitEnds(busy);
    return results;
  }
  bool Stop() override {
    {
      MutexLock lock(mutex_);
      is_stopping_ = true;
      launched_.NotifyAll();
    }
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
    return true;
  }

 private:
  RankResult Step(const RankBatch& batch) const {
    const BenchClock::time_point begin = BenchClock::now();
    const WorkerGroupInfo& info = options_.info;
    RankResult result;
    result.step = batch.step;
    result.expert_counts.assign(static_cast<size_t>(info.num_layers) * info.num_experts, 1);
    result.repetition.num_rows = 1;
    result.repetition.same_first.assign(info.num_layers, 0);
    result.repetition.any_shared.assign(info.num_layers, 0);
    result.samples.reserve(batch.chunks.size());
    for (const SequenceChunk& chunk : batch.chunks) {
      if (!chunk.sample) continue;
      SampledToken sample;
      sample.slot = chunk.slot;
      // Pieces of text all over the vocabulary: those before are control and byte pieces.
      const uint32_t mixed = (static_cast<uint32_t>(chunk.start_position) * 131 + chunk.slot) * 977;
      sample.token_id = static_cast<int32_t>(300 + mixed % (info.vocab - 300));
      for (int32_t i = 0; i < options_.num_logprobs; ++i) {
        sample.top_logprobs.push_back({i, -1.0F});
      }
      result.samples.push_back(std::move(sample));
    }
    if (options_.step_time.count() > 0) std::this_thread::sleep_until(begin + options_.step_time);
    result.compute_seconds = 1e-6 * MicrosecondsBetween(begin, BenchClock::now());
    return result;
  }

  void RunRank(int rank) {
    uint64_t num_done = 0;
    while (true) {
      {
        MutexLock lock(mutex_);
        while (num_launched_ == num_done && !is_stopping_) launched_.Wait(mutex_);
        if (num_launched_ == num_done) return;
      }
      ++num_done;
      // Nobody else touches them while the rank runs.
      RankResult result = Step(batches_[rank]);
      MutexLock lock(mutex_);
      results_[rank] = std::move(result);
      if (--num_running_ == 0) finished_.NotifyAll();
    }
  }

  const StopwatchGroupOptions options_;
  const std::shared_ptr<EngineStopwatch> stopwatch_;
  std::vector<RankBatch> batches_;  // changed only while no rank runs
  Mutex mutex_;
  CondVar launched_;
  CondVar finished_;
  std::vector<RankResult> results_;
  uint64_t num_launched_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace moed
