// A worker group around another one that counts, from the batches alone, what the ranks must count.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/core/status.h"
#include "runtime/engine/worker_group.h"

namespace moed {

// The engine thread's; a test reads it when the engine is shut down.
struct PlannedWork {
  int64_t num_rows = 0;
  std::vector<int64_t> pairs_by_rank;  // [num_ranks] of one layer: rows times the k of their slot
  int64_t rows_of_other_k = 0;         // rows of requests that ask for a k of their own
  int64_t first_rows = 0;              // rows that follow none of their slot
  int64_t num_forks = 0;
  int64_t dropped_pairs = 0;  // RankResult::dropped_pairs, summed
};

class CountingGroup final : public WorkerGroup {
 public:
  CountingGroup(std::unique_ptr<WorkerGroup> group, const WorkerGroupInfo& info,
                std::shared_ptr<PlannedWork> work)
      : group_(std::move(group)),
        experts_per_token_(info.experts_per_token),
        slots_(info.num_ranks, std::vector<Slot>(info.max_sequences_per_rank)),
        work_(std::move(work)) {
    work_->pairs_by_rank.assign(info.num_ranks, 0);
  }

  absl::StatusOr<WorkerGroupInfo> Start(const RankProgressCallback& progress) override {
    return group_->Start(progress);
  }
  absl::Status Launch(std::vector<RankBatch> batches) override {
    for (size_t rank = 0; rank < batches.size(); ++rank) {
      Count(batches[rank], slots_[rank], &work_->pairs_by_rank[rank]);
    }
    return group_->Launch(std::move(batches));
  }
  absl::StatusOr<std::vector<RankResult>> Await() override {
    MOED_ASSIGN_OR_RETURN(std::vector<RankResult> results, group_->Await());
    for (const RankResult& result : results) work_->dropped_pairs += result.dropped_pairs;
    return results;
  }
  bool Stop() override { return group_->Stop(); }

 private:
  struct Slot {
    int32_t experts_per_token = 0;
    bool has_rows = false;
  };

  void Count(const RankBatch& batch, std::vector<Slot>& slots, int64_t* pairs) {
    for (const SlotInit& init : batch.admitted) slots[init.slot] = {init.experts_per_token, false};
    for (const SequenceChunk& chunk : batch.chunks) {
      Slot& slot = slots[chunk.slot];
      const auto num_rows = static_cast<int64_t>(chunk.tokens.size());
      const bool has_own_k = slot.experts_per_token > 0;
      work_->num_rows += num_rows;
      work_->rows_of_other_k += has_own_k ? num_rows : 0;
      work_->first_rows += slot.has_rows ? 0 : 1;
      work_->num_forks += static_cast<int64_t>(chunk.fork_slots.size());
      *pairs += num_rows * (has_own_k ? slot.experts_per_token : experts_per_token_);
      slot.has_rows = true;
    }
  }

  const std::unique_ptr<WorkerGroup> group_;
  const int experts_per_token_;
  std::vector<std::vector<Slot>> slots_;  // [num_ranks, max_sequences_per_rank]
  const std::shared_ptr<PlannedWork> work_;
};

}  // namespace moed
