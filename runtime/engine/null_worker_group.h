// Ranks that compute nothing: tokens at once, to measure everything else.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "runtime/engine/rank_slots.h"
#include "runtime/engine/worker_group.h"

namespace moed {

// Equal on all ranks.
struct NullWorkerGroupOptions {
  int num_ranks = 1;
  int64_t num_kv_blocks_per_rank = 0;  // that the scheduler may hand out; there is no memory
  int32_t block_size = 16;
  int32_t max_sequences_per_rank = 256;
  int32_t max_rows_per_step = 512;
  int64_t max_positions = 0;
  int num_layers = 1;
  int num_experts = 1;
  int experts_per_token = 1;
  int max_experts_per_token = 0;  // that a request may ask for; 0: experts_per_token
  int32_t vocab = 0;
  int32_t first_token_id = 0;              // tokens are drawn from [first_token_id, vocab)
  std::chrono::microseconds step_time{0};  // from Launch to Await's answer at least
};

// Holds the planner to the contract of batch_plan.h as real ranks do (RankSlots).
//
// A draw is a hash of (seed, choice, position), of the position alone at temperature 0, so a
// request gives the same tokens whatever else runs and however often it is preempted. Suppressed
// tokens, bad words and a list of allowed tokens are obeyed: the next token that may be drawn is.
// There are no logits: nothing else of SamplingParams changes anything, every log probability is 0
// and the alternatives are the lowest ids. No expert is counted; a request that asks which experts
// its rows went to is told the first ones.
//
// No thread: Await answers on its caller's, and sleeps until the step's time is over.
class NullWorkerGroup final : public WorkerGroup {
 public:
  explicit NullWorkerGroup(const NullWorkerGroupOptions& options) : options_(options) {}

  // INVALID_ARGUMENT names the option that is out of range.
  absl::StatusOr<WorkerGroupInfo> Start(const RankProgressCallback& progress) override;
  absl::Status Launch(std::vector<RankBatch> batches) override;
  absl::StatusOr<std::vector<RankResult>> Await() override;
  bool Stop() override { return true; }

 private:
  RankResult Step(const RankBatch& batch, RankSlots& slots) const;
  SampledToken Draw(RankSlots& slots, int32_t slot, int64_t position, bool suppress) const;
  int32_t DrawId(const SamplingRow& row) const;
  // What is asked for of the chunk's rows besides tokens.
  ChunkReport Report(const RankSlots& slots, const SequenceChunk& chunk) const;
  SampledToken WithAlternatives(int32_t slot, int32_t token_id, int32_t num_alternatives) const;

  const NullWorkerGroupOptions options_;
  std::vector<RankSlots> slots_;  // [num_ranks]
  std::vector<RankBatch> launched_;
  std::chrono::steady_clock::time_point launched_at_;
};

}  // namespace moed
