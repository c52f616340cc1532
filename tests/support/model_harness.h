// Runs requests on a group of rank threads without an engine, each step laid out by the test.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "parallel/communicator_group.h"
#include "parallel/exchange_strategy.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/weight_source.h"
#include "runtime/engine/thread_worker_group.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// The shape of one run; what the same bits must not depend on.
struct HarnessOptions {
  ModelConfig config;
  std::shared_ptr<WeightSource> weights;
  // Unset: the processor, as the three below say. Else they are not read.
  BackendFactory make_backend;
  CpuIsa isa = CpuIsa::kReference;
  DType dtype = DType::kFloat32;
  int num_threads = 1;
  CommunicatorGroupFactory make_group;  // ThreadWorkerGroupOptions
  int num_ranks = 1;
  ExchangeStrategy exchange = ExchangeStrategy::kExact;
  bool mixes_exchanges = false;  // every other step, from the second on, takes the other strategy
  int64_t block_size = 16;
  int64_t num_kv_blocks = 256;
  uint64_t block_order_seed = 0;  // 0: blocks are given out ascending; else shuffled
  int32_t max_sequences = 16;
  int32_t max_rows = 512;
  int32_t max_experts_per_token = 0;  // ThreadWorkerGroupOptions
  double capacity_factor = 0;
  bool trace_routing = false;
  bool capture_logits = false;
};

struct HarnessRequest {
  std::vector<int32_t> prompt;
  int32_t num_tokens = 0;    // to generate
  int home_rank = 0;         // modulo the number of ranks
  int32_t chunk_tokens = 0;  // of the prompt in a step; 0: all of it
  int first_step = 0;        // joins the batch then
  // Prompt positions to take logits of: a chunk ends there and samples. Ascending.
  std::vector<int32_t> logit_positions;
  // Loses its slot and its cache after so many tokens, and comes back in the next step. Ascending.
  std::vector<int32_t> preempted_after;
  // A request before this one, with the same k, whose prompt begins as this one's: whole blocks
  // that it has computed in an earlier step on the same rank are used, not computed again. -1:
  // none.
  int prefix_of = -1;
  int32_t min_tokens = 0;  // tokens drawn without the suppressed ids
  // The slot and, where the sampling looks back, the history are filled in. With sampling.n over 1
  // the other choices, which follow this choice_index, fork from the first.
  SlotInit init;
};

struct HarnessOutput {
  std::vector<SampledToken> tokens;              // generated
  std::map<int32_t, std::vector<float>> logits;  // by position, where captured
  std::vector<SampledToken> prompt_logprobs;     // of the prompt's tokens but the first
  std::vector<int16_t> routed_experts;           // [computed rows, num_layers, k]
  int64_t dropped_pairs = 0;
  std::vector<HarnessOutput> forks;  // choices 1 to n - 1
};

struct HarnessRun {
  std::vector<HarnessOutput> outputs;  // by request
  std::vector<int64_t> expert_counts;  // [num_layers * num_experts], summed over ranks and steps
  RepetitionCounts repetition;         // summed likewise
  int64_t num_rows = 0;                // computed
  int64_t num_cached_rows = 0;         // taken from another request: HarnessRequest::prefix_of
  int64_t num_pairs = 0;               // sum of their k, of one layer
  int64_t dropped_pairs = 0;           // RankResult::dropped_pairs, summed
  int num_steps = 0;
  struct Step {
    std::vector<RankBatch> batches;  // [num_ranks]
    std::vector<RankResult> results;
  };
  std::vector<Step> steps;  // kept where trace_routing is set
};

class ModelHarness {
 public:
  static absl::StatusOr<std::unique_ptr<ModelHarness>> Create(const HarnessOptions& options);

  // Runs all requests to their end; each choice has a slot of its own. May be called again.
  absl::StatusOr<HarnessRun> Run(const std::vector<HarnessRequest>& requests);

 private:
  // Logits of the last step's sampled rows on one rank, in their order.
  struct Capture {
    std::vector<std::vector<float>> rows;
  };
  class CapturingBackend;
  class Sequence;

  explicit ModelHarness(const HarnessOptions& options) : options_(options) {}
  absl::Status Step(std::vector<std::unique_ptr<Sequence>>& sequences, HarnessRun& run);
  static void Add(const RankResult& result, HarnessRun& run);

  const HarnessOptions options_;
  std::vector<Capture> captures_;  // [num_ranks]
  std::unique_ptr<ThreadWorkerGroup> group_;
  std::vector<std::vector<int32_t>> free_blocks_;  // [num_ranks], the next one last
  uint64_t next_step_ = 0;
};

}  // namespace moed
