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
  CpuIsa isa = CpuIsa::kReference;
  DType dtype = DType::kFloat32;
  int num_threads = 1;
  int num_ranks = 1;
  ExchangeStrategy exchange = ExchangeStrategy::kExact;
  bool mixes_exchanges = false;  // every other step, from the second on, takes the other strategy
  int64_t block_size = 16;
  int64_t num_kv_blocks = 256;
  uint64_t block_order_seed = 0;  // 0: blocks are given out ascending; else shuffled
  int32_t max_sequences = 16;
  int32_t max_rows = 512;
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
  SlotInit sampling;  // the slot is filled in
};

struct HarnessOutput {
  std::vector<SampledToken> tokens;              // generated
  std::map<int32_t, std::vector<float>> logits;  // by position, where captured
};

struct HarnessRun {
  std::vector<HarnessOutput> outputs;  // by request
  std::vector<int64_t> expert_counts;  // [num_layers * num_experts], summed over ranks and steps
  int64_t num_rows = 0;                // computed
  int num_steps = 0;
};

class ModelHarness {
 public:
  static absl::StatusOr<std::unique_ptr<ModelHarness>> Create(const HarnessOptions& options);

  // Runs all requests to their end; each has a slot of its own. May be called again.
  absl::StatusOr<HarnessRun> Run(const std::vector<HarnessRequest>& requests);

 private:
  // Logits of the last step's sampled rows on one rank, in their order.
  struct Capture {
    std::vector<std::vector<float>> rows;
  };
  class CapturingBackend;
  class Sequence;

  explicit ModelHarness(const HarnessOptions& options) : options_(options) {}
  absl::Status Step(std::vector<Sequence>& sequences, HarnessRun& run);

  const HarnessOptions options_;
  std::vector<Capture> captures_;  // [num_ranks]
  std::unique_ptr<ThreadWorkerGroup> group_;
  std::vector<std::vector<int32_t>> free_blocks_;  // [num_ranks], the next one last
  uint64_t next_step_ = 0;
};

}  // namespace moed
