// Builds one step's plan: the half of Scheduler that decides who gets rows and blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "runtime/schedule/scheduler.h"

namespace moed {

// Lives for one call of Scheduler::Plan, whose class comment says what is decided.
class Scheduler::StepPlanner {
 public:
  StepPlanner(Scheduler& scheduler, TimePoint now);

  // Fills `plan` but for what Sweep gave. With rows, the step is uncommitted from now on.
  void Fill(StepPlan* plan);

 private:
  // A home for a sequence that waits.
  struct Home {
    int rank = 0;
    std::vector<int32_t> cached_blocks;  // the longest known prefix that the rank holds
  };

  void PlanDecodes(int rank);
  void PlanPrefills(int rank);
  void Admit();

  // A block for the next token of `sequence`, for whom others may have to give way. False: it had
  // to give way itself.
  bool MakeRoom(Sequence& sequence);
  void AddDecode(Sequence& sequence);
  // The next piece of what is known of `sequence`, as the budget allows.
  void AddPrefill(Sequence& sequence);
  // Asks for a token after the chunk's last; for n of them once the prompt is computed.
  void AddSample(Sequence& sequence, SequenceChunk* chunk);
  void Split(Sequence& first, SequenceChunk* chunk);
  // Sends the blocks that the rank does not know of and takes the chunk into the plan.
  void AddChunk(Sequence& sequence, SequenceChunk chunk);

  bool MayTakeCached(const Sequence& sequence) const;
  // Blocks that it may take from the cache: the last token that is known has to be computed, for
  // what follows it to be drawn.
  int64_t MostCached(const Sequence& sequence) const;
  std::optional<Home> ChooseHome(const Sequence& sequence) const;
  // Of what runs there, not yet planned.
  static int64_t NumPromptRows(const Rank& rank);
  std::vector<int32_t> FindCachedBlocks(const Sequence& sequence, int rank) const;
  bool HasRoom(const Sequence& sequence, const Home& home) const;
  void AdmitTo(Home home, Sequence& sequence);
  SlotInit MakeSlotInit(const Sequence& sequence) const;

  Scheduler& scheduler_;
  const SchedulerOptions& options_;
  const TimePoint now_;
  std::vector<int32_t> rows_left_;  // [num_ranks]
  std::vector<bool> is_blocked_;    // [num_ranks] for those behind in the queue
  std::vector<RankBatch> batches_;  // [num_ranks]
  InFlight in_flight_;
  std::vector<Sequence*> prefilled_;  // in this step
};

}  // namespace moed
