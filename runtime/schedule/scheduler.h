// Continuous batching: which rows each rank computes in the next step.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/block_allocator.h"
#include "runtime/schedule/exchange_policy.h"
#include "runtime/schedule/request.h"
#include "runtime/schedule/sequence.h"

namespace moed {

struct SchedulerOptions {
  int num_ranks = 1;
  int32_t max_sequences_per_rank = 1;
  int32_t token_budget = 1;  // rows of a rank per step, equal on all
  int32_t block_size = 16;   // tokens
  int64_t num_blocks_per_rank = 1;
  int32_t max_waiting = 1024;
  ExchangePolicy exchange;
};

struct StepPlan {
  std::vector<RankBatch> batches;  // [num_ranks]
  int64_t num_rows = 0;            // of all ranks; 0: nothing to launch, and nothing to commit
  std::vector<SequenceEnd> ended;  // cancelled or past their deadline; no longer part of the plan
};

// Policy only: no thread, no clock, no device. One thread at a time. What is decided:
//
//  - First come, first served. A request whose turn it is and that finds no room makes the later
//    ones wait too, however small they are, so that nobody starves.
//  - Room means a slot, a row of this step's budget, and blocks for the whole prompt and max_tokens
//    on one rank. They are reserved at admission: an admitted sequence can always run to its end,
//    and nothing is ever preempted. Blocks are chosen only when tokens come to fill them.
//  - Home rank: of those with room the one with the fewest sequences, then the most available
//    blocks, then the lowest id. (A rank with prompt tokens left over from this step has no room.)
//  - A step serves each rank's decodes first (one row each; there are never more sequences than
//    budget), then its prompts in the order of admission, in chunks that fill the budget, then
//    admits.
//  - End() and deadlines take effect before the next step is planned, in the queue as well.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // Takes a request into the queue. INVALID_ARGUMENT: an empty prompt, max_tokens below 1, or more
  // blocks than a rank has; RESOURCE_EXHAUSTED: the queue is full. A deadline that has passed is
  // found by the next Plan.
  absl::StatusOr<SequenceId> Submit(GenerationRequest request);

  // Marks a sequence to be ended with `status` (not OK) before the next step. The first mark
  // counts; an unknown or ended sequence is ignored.
  void End(SequenceId id, const absl::Status& status);

  // The next step. The one before must have been committed.
  StepPlan Plan(TimePoint now);

  // What the ranks answered to the last plan with rows; results [num_ranks]. The tokens of
  // sequences marked by End() are left out. INTERNAL, and nothing is taken, when the answer does
  // not fit the plan.
  absl::StatusOr<std::vector<SequenceToken>> Commit(absl::Span<const RankResult> results,
                                                    TimePoint now);

  // Ends everything, a step in flight included, which is then not to be committed.
  std::vector<SequenceEnd> EndAll(const absl::Status& status, TimePoint now);

  bool HasWork() const { return !by_id_.empty(); }
  int32_t num_waiting() const { return static_cast<int32_t>(waiting_.size()); }
  int32_t num_running() const;
  uint64_t num_steps() const { return step_; }
  const BlockAllocator& blocks(int rank) const { return ranks_[rank].blocks; }

 private:
  struct Rank {
    explicit Rank(const SchedulerOptions& options);

    BlockAllocator blocks;
    std::vector<int32_t> free_slots;  // descending: the lowest is taken from the back
    std::vector<std::unique_ptr<Sequence>> running;  // in the order of admission
    std::vector<Sequence*> sampling;                 // of the step in flight, in chunk order
  };

  absl::Status CheckFits(const GenerationRequest& request) const;
  int64_t BlocksFor(int64_t num_tokens) const;
  // Removes what is marked or late from the queue and the ranks.
  void EndMarked(TimePoint now, std::vector<SequenceEnd>* ended);
  // Appends the next piece of `sequence` to `batch`, within `rows_left`; the rows it took.
  int32_t AddChunk(Sequence& sequence, int32_t rows_left, RankBatch* batch);
  // Admits from the head of the queue for as long as there is room.
  void Admit(TimePoint now, absl::Span<int32_t> rows_left, StepPlan* plan);
  // -1: no rank has room.
  int ChooseHomeRank(const Sequence& sequence, absl::Span<const int32_t> rows_left) const;
  SlotInit MakeSlotInit(const Sequence& sequence) const;
  absl::Status CheckResults(absl::Span<const RankResult> results) const;
  // Gives the slot and the blocks back.
  void Release(Sequence& sequence);

  const SchedulerOptions options_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<Rank> ranks_;
  absl::flat_hash_map<SequenceId, Sequence*> by_id_;
  SequenceId next_id_ = 1;
  uint64_t step_ = 0;
  bool in_flight_ = false;
};

}  // namespace moed
