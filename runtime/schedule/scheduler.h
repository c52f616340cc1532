// Continuous batching: which rows each rank computes in the next step.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/block_pool.h"
#include "runtime/schedule/exchange_policy.h"
#include "runtime/schedule/request.h"
#include "runtime/schedule/sequence.h"
#include "runtime/schedule/sequence_events.h"

namespace moed {

struct SchedulerOptions {
  int num_ranks = 1;
  int32_t max_sequences_per_rank = 1;
  int32_t token_budget = 1;  // rows of a rank per step, equal on all
  int32_t block_size = 16;   // tokens
  int64_t num_blocks_per_rank = 1;
  int32_t max_waiting = 1024;
  int32_t experts_per_token = 0;  // of a request that does not say; a part of its blocks' hashes
  bool prefix_cache = true;
  // Waiting time that is worth one level of priority.
  std::chrono::milliseconds ageing = std::chrono::seconds(1);
  ExchangePolicy exchange;
};

struct StepPlan {
  std::vector<RankBatch> batches;  // [num_ranks]
  int64_t num_rows = 0;            // of all ranks; 0: nothing to launch, and nothing to commit
  std::vector<SequenceTimeout> timeouts;  // no longer part of the plan, as are those
  std::vector<SequenceEnd> ended;         // that were cancelled or are past their deadline
};

// Counted since the start.
struct SchedulerCounters {
  uint64_t steps = 0;  // committed
  int64_t preemptions = 0;
  int64_t prompt_tokens = 0;      // of requests that were admitted, once each
  int64_t cached_tokens = 0;      // of those, the ones taken from the prefix cache
  int64_t recomputed_tokens = 0;  // computed again after a preemption
  int64_t dropped_pairs = 0;
};

// Policy only: no thread, no clock, no device. One thread at a time. What is decided:
//
//  - Order. Requests are served by time of arrival; every level of priority counts as `ageing` of
//    waiting, so that a low priority delays a request but starves it never. Who finds no room
//    makes those behind it wait for the ranks it could have had, however small they are.
//  - Room means a slot for every continuation, a row of the budget that no decode there takes, and
//    blocks for all tokens that are known, and one more for each sequence that already runs there.
//    A continuation's later blocks are taken as it grows.
//  - Preemption. Where a decode needs a block and none is free on its rank, the last in the order
//    of service of those that run there gives way, which may be the one in need itself. It keeps
//    its place in the order, its tokens and its share of the published blocks, and is computed
//    again, on whatever rank has room. The first in the order on a rank is never preempted.
//  - Home rank: the one that is asked for, or of those with room the one where the prompt is
//    computed soonest: where the rows of prompts that run there and are not planned, plus those
//    of this prompt less what the rank has in its prefix cache, are the fewest; then the one with
//    the fewest sequences, then the most free blocks, then the lowest id. Ranks with more than
//    kLoadSlack sequences above the least come after all others. Where the budget of that rank
//    is spent for this step, the request waits for it, and those behind it choose among the rest.
//  - A step serves each rank's decodes first (one row each; there are never more sequences than
//    budget), then its prompts in the order of service, in chunks that fill the budget, then
//    admits.
//  - n continuations share the blocks of their prompt, which is computed once; a block that is not
//    full is copied for each.
//  - End(), time limits and deadlines take effect before the next step is planned, in the queue as
//    well.
//
// Planning ahead: a step may be planned while the one before has not been committed; its decodes
// then read "the token last sampled in this slot". A continuation that ends with the uncommitted
// token has one row too many in the step that is planned; its token is dropped. Blocks and slots
// are given on at once, because ranks run steps in the order of their plans.
class Scheduler {
 public:
  // Most plans that are not committed.
  static constexpr int kMaxUncommittedPlans = 2;
  static constexpr int kLoadSlack = 4;

  explicit Scheduler(const SchedulerOptions& options);
  ~Scheduler();

  // Takes a request into the queue. INVALID_ARGUMENT: an empty prompt, max_tokens below 1, a home
  // rank that does not exist, more continuations than a rank has slots, or one that needs more
  // blocks than a rank has; RESOURCE_EXHAUSTED: the queue is full. A deadline that has passed is
  // found by the next Plan.
  absl::StatusOr<SequenceId> Submit(GenerationRequest request, TimePoint now);

  // Marks a request to be ended with `status` (not OK) before the next step. The first mark
  // counts; an unknown or ended request is ignored.
  void End(SequenceId id, const absl::Status& status);
  // Ends one continuation, of which nothing more will be told: its stop string was found. One that
  // has ended is ignored.
  void EndChoice(SequenceId id, int32_t choice);

  // The next step. At most kMaxUncommittedPlans - 1 plans with rows are uncommitted.
  StepPlan Plan(TimePoint now);

  // What the ranks answered to the oldest uncommitted plan with rows; results [num_ranks]. What
  // concerns continuations that have ended or are marked by End() is left out. INTERNAL, and
  // nothing is taken, when the answer does not fit the plan.
  absl::StatusOr<StepOutput> Commit(absl::Span<const RankResult> results, TimePoint now);

  // Ends everything, steps in flight included, which are then not to be committed.
  std::vector<SequenceEnd> EndAll(const absl::Status& status, TimePoint now);

  bool HasWork() const { return !requests_.empty(); }
  // Continuations in the queue; one for a request whose prompt has not been computed.
  int32_t num_waiting() const { return static_cast<int32_t>(waiting_.size()); }
  // Continuations that have a slot.
  int32_t num_running() const;
  int num_uncommitted() const { return static_cast<int>(in_flight_.size()); }
  const SchedulerCounters& counters() const { return counters_; }
  const BlockPool& blocks(int rank) const { return ranks_[rank].blocks; }

 private:
  // Order of service.
  struct ServedEarlier {
    bool operator()(const Sequence* a, const Sequence* b) const;
  };
  struct Rank {
    explicit Rank(const SchedulerOptions& options);

    BlockPool blocks;
    std::set<int32_t> free_slots;
    std::set<Sequence*, ServedEarlier> running;
  };
  // Parts of a plan that has not been committed. They name continuations by id, as those may end
  // first.
  struct PlannedChunk {
    SequenceId id = 0;
    int32_t choice = 0;
    int32_t slot = 0;
    int32_t start_position = 0;
    int32_t num_tokens = 0;
  };
  struct PlannedSample {
    SequenceId id = 0;
    int32_t choice = 0;
    int32_t slot = 0;
  };
  struct RankPlan {
    std::vector<PlannedChunk> chunks;
    std::vector<PlannedSample> samples;
  };
  struct InFlight {
    uint64_t step = 0;
    std::vector<RankPlan> ranks;
  };
  class StepPlanner;  // step_planner.h

  absl::Status CheckFits(const GenerationRequest& request) const;
  int64_t BlocksFor(int64_t num_tokens) const;
  // Nullptr where it has ended, or is marked to.
  Sequence* Find(SequenceId id, int32_t choice);
  // Removes what is marked, late or timed out.
  void Sweep(TimePoint now, StepPlan* plan);
  // Gives slots and blocks back, and leaves the running.
  void LeaveRank(Sequence& sequence);
  // Out of the queue or off its rank, and gone.
  void Remove(Sequence& sequence);
  void RemoveRequest(ScheduledRequest& owner);
  void Preempt(Sequence& sequence);
  // Makes the known full blocks whose keys and values are, or are being, written findable.
  void Publish(Sequence& sequence);
  // Whether its blocks are looked for and left in the prefix cache.
  bool MayCache(const ScheduledRequest& owner) const;
  // Hashes the first num_blocks blocks, whose tokens are known.
  void ExtendHashes(int64_t num_blocks, Sequence* sequence) const;
  absl::Status CheckResults(const InFlight& plan, absl::Span<const RankResult> results) const;
  void CommitReports(const RankPlan& plan, const RankResult& result, StepOutput* output);
  void CommitSamples(const RankPlan& plan, const RankResult& result, TimePoint now,
                     StepOutput* output);

  const SchedulerOptions options_;
  std::map<SequenceId, std::unique_ptr<ScheduledRequest>> requests_;
  std::set<Sequence*, ServedEarlier> waiting_;
  std::vector<Rank> ranks_;
  std::deque<InFlight> in_flight_;  // the oldest first
  SequenceId next_id_ = 1;
  uint64_t step_ = 0;  // of the newest plan with rows
  SchedulerCounters counters_;
};

}  // namespace moed
