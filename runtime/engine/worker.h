// One rank: takes its share of a step, gives back what was sampled.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/dtype.h"
#include "parallel/communicator.h"
#include "parallel/expert_placement.h"
#include "parallel/token_dispatcher.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/model_weights.h"
#include "runtime/engine/rank_inputs.h"
#include "runtime/engine/rank_prompt_scorer.h"
#include "runtime/engine/rank_routing.h"
#include "runtime/engine/rank_sampler.h"
#include "runtime/engine/rank_slots.h"
#include "runtime/model/activations.h"
#include "runtime/model/heartbeat.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/transformer.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Fixed at start; equal on all ranks. Sizes are positive, but for max_gather_rows: 0 means that no
// step gathers.
struct WorkerLimits {
  int64_t block_size = 0;
  int64_t num_kv_blocks = 0;
  int64_t max_sequences = 0;  // slots
  int64_t max_rows = 0;       // rows of a step
  int64_t max_gather_rows = 0;
  int64_t max_experts_per_token = 0;  // [ModelConfig::top_k, num_experts]; 0: ModelConfig::top_k
  double capacity_factor = 0;         // 0: no pair is dropped; ExpertCapacity (expert_capacity.h)
  bool trace_routing = false;         // whether RankResult::routing is filled

  // A slot draws at most one token a step; with forks, more slots than there are rows.
  int64_t max_logit_rows() const { return max_sequences; }
};

// What a worker works with; all outlive it.
struct WorkerParts {
  const ModelConfig* config = nullptr;
  const ExpertPlacement* placement = nullptr;
  const ReplicatedWeights* replicated = nullptr;
  const ExpertWeights* experts = nullptr;  // of this rank
  Backend* backend = nullptr;
  Communicator* communicator = nullptr;
  Heartbeat* heartbeat = nullptr;  // may be null
};

// Used by the rank's thread. After Create a step allocates nothing but the vectors of its result,
// and what the lists of an admission need that its slot has no room for: more than
// RankSlots::kReservedSuppressedIds suppressed tokens, biases, allowed tokens, bad words, and the
// tokens that penalties look back at.
class Worker {
 public:
  // Device memory that Create takes on such a backend, by MemoryKind; weights are 0, as they are
  // loaded elsewhere. At most kUncountableBytes each. INVALID_ARGUMENT as
  // TokenDispatcher::ExchangeBytes and Backend::WorkspaceBytes.
  static absl::StatusOr<std::vector<int64_t>> MemoryBytes(const ModelConfig& config,
                                                          const ExpertPlacement& placement,
                                                          const Backend& backend,
                                                          const WorkerLimits& limits);

  // Allocates everything; RESOURCE_EXHAUSTED when the device has not enough.
  static absl::StatusOr<std::unique_ptr<Worker>> Create(const WorkerParts& parts,
                                                        const WorkerLimits& limits);

  // Runs one step and waits for it. The batch comes from the planner: one that does not fit the
  // slots or the limits is our bug and ends in MOED_CHECK. UNAVAILABLE when the group failed, or
  // the device's error.
  absl::StatusOr<RankResult> Step(const RankBatch& batch);

 private:
  Worker(const WorkerParts& parts, const WorkerLimits& limits);
  absl::Status Allocate();
  // Takes the batch into the slots.
  void Admit(const RankBatch& batch);
  RankResult CollectResult(const RankBatch& batch);

  const WorkerParts parts_;
  const WorkerLimits limits_;
  RankSlots slots_;
  std::unique_ptr<KvCache> kv_cache_;
  std::unique_ptr<Activations> activations_;
  std::unique_ptr<TokenDispatcher> dispatcher_;
  std::unique_ptr<RankInputs> inputs_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<RankSampler> sampler_;
  std::unique_ptr<RankPromptScorer> scorer_;
  std::unique_ptr<RankRouting> routing_;
  std::unique_ptr<StreamTimer> timer_;  // of a step
  // Destroyed first, which waits for it: after a step that failed it still uses what is above.
  std::unique_ptr<Stream> stream_;
};

}  // namespace moed
