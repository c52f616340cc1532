// A worker group of FakeRanks whose steps a test can hold, let go one by one, or make fail.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/worker_group.h"
#include "tests/support/fake_rank.h"

namespace moed {

// The test's handle: it outlives the engine that owns the group.
class FakeWorkerControl {
 public:
  // From now on Await returns only for steps that ReleaseStep has let go.
  void Hold() {
    MutexLock lock(mutex_);
    num_permits_ = 0;
  }
  void ReleaseStep() {
    MutexLock lock(mutex_);
    ++num_permits_;
    changed_.NotifyAll();
  }
  void ReleaseAll() {
    MutexLock lock(mutex_);
    num_permits_ = kUnlimited;
    changed_.NotifyAll();
  }
  // Blocks until `count` steps have been launched since the start.
  void WaitForLaunch(int64_t count) {
    MutexLock lock(mutex_);
    while (num_launched_ < count) changed_.Wait(mutex_);
  }
  // Await answers `status` from now on.
  void Fail(const absl::Status& status) {
    MutexLock lock(mutex_);
    failure_ = status;
    num_permits_ = kUnlimited;
    changed_.NotifyAll();
  }
  void HangOnStop() {
    MutexLock lock(mutex_);
    hangs_ = true;
  }
  int64_t num_launched() const {
    MutexLock lock(mutex_);
    return num_launched_;
  }
  int num_stops() const {
    MutexLock lock(mutex_);
    return num_stops_;
  }
  bool is_destroyed() const {
    MutexLock lock(mutex_);
    return is_destroyed_;
  }
  int64_t num_rows() const {
    MutexLock lock(mutex_);
    return num_rows_;
  }
  std::string breach() const {
    MutexLock lock(mutex_);
    return breach_;
  }

 private:
  friend class FakeWorkerGroup;
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

  mutable Mutex mutex_;
  CondVar changed_;
  int64_t num_permits_ ABSL_GUARDED_BY(mutex_) = kUnlimited;
  int64_t num_launched_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_rows_ ABSL_GUARDED_BY(mutex_) = 0;  // computed since the start
  int num_stops_ ABSL_GUARDED_BY(mutex_) = 0;
  bool hangs_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_destroyed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::string breach_ ABSL_GUARDED_BY(mutex_);
};

class FakeWorkerGroup : public WorkerGroup {
 public:
  FakeWorkerGroup(int num_ranks, const FakeRankOptions& options,
                  std::shared_ptr<FakeWorkerControl> control)
      : options_(options), control_(std::move(control)) {
    for (int rank = 0; rank < num_ranks; ++rank) ranks_.emplace_back(options);
  }
  ~FakeWorkerGroup() override {
    MutexLock lock(control_->mutex_);
    control_->is_destroyed_ = true;
  }

  static WorkerGroupInfo Info(int num_ranks, const FakeRankOptions& options) {
    WorkerGroupInfo info;
    info.num_ranks = num_ranks;
    info.num_kv_blocks_per_rank = options.num_blocks;
    info.max_sequences_per_rank = options.max_sequences;
    info.max_rows_per_step = options.max_rows;
    info.max_gather_rows = options.max_rows;
    info.block_size = options.block_size;
    info.num_layers = options.num_layers;
    info.num_experts = options.num_experts;
    info.experts_per_token = options.experts_per_token;
    info.max_experts_per_token = options.num_experts;
    info.vocab = options.vocab;
    info.backend = "fake";
    return info;
  }

  absl::StatusOr<WorkerGroupInfo> Start(const RankProgressCallback&) override {
    return Info(static_cast<int>(ranks_.size()), options_);
  }

  absl::Status Launch(std::vector<RankBatch> batches) override {
    batches_ = std::move(batches);
    MutexLock lock(control_->mutex_);
    ++control_->num_launched_;
    control_->changed_.NotifyAll();
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<RankResult>> Await() override {
    {
      MutexLock lock(control_->mutex_);
      while (control_->num_permits_ == 0) control_->changed_.Wait(control_->mutex_);
      if (!control_->failure_.ok()) return control_->failure_;
      if (control_->num_permits_ != FakeWorkerControl::kUnlimited) --control_->num_permits_;
    }
    std::vector<RankResult> results;
    int64_t num_rows = 0;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      results.push_back(ranks_[rank].Step(batches_[rank]));
      num_rows += batches_[rank].num_rows();
    }
    MutexLock lock(control_->mutex_);
    control_->num_rows_ += num_rows;
    for (const FakeRank& rank : ranks_) {
      if (control_->breach_.empty()) control_->breach_ = rank.breach();
    }
    return results;
  }

  bool Stop() override {
    MutexLock lock(control_->mutex_);
    ++control_->num_stops_;
    return !control_->hangs_;
  }

 private:
  const FakeRankOptions options_;
  const std::shared_ptr<FakeWorkerControl> control_;
  std::vector<FakeRank> ranks_;
  std::vector<RankBatch> batches_;
};

}  // namespace moed
