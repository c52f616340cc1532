// Ranks that compute nothing: tokens at once, to measure everything else.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "runtime/engine/worker_group.h"

namespace moed {

struct NullWorkerGroupOptions {
  int num_ranks = 1;
  int64_t num_kv_blocks_per_rank = 0;
  int32_t block_size = 16;
  int32_t max_sequences_per_rank = 256;
  int32_t max_rows_per_step = 512;
  int num_layers = 1;
  int num_experts = 1;
  int experts_per_token = 1;
  int32_t vocab = 0;
  int32_t first_token_id = 0;              // tokens are drawn from [first_token_id, vocab)
  std::chrono::microseconds step_time{0};  // how long Await takes at least
};

// Draws are a hash of (seed, choice, position), so a request gives the same tokens whatever else
// runs. No thread: Await answers. Log probabilities are 0; no expert is counted.
class NullWorkerGroup final : public WorkerGroup {
 public:
  explicit NullWorkerGroup(const NullWorkerGroupOptions& options);

  absl::StatusOr<WorkerGroupInfo> Start(const RankProgressCallback& progress) override;
  absl::Status Launch(std::vector<RankBatch> batches) override;
  absl::StatusOr<std::vector<RankResult>> Await() override;
  bool Stop() override;

 private:
  struct Slot {
    SlotInit init;
    int32_t next_position = 0;
  };

  const NullWorkerGroupOptions options_;
  std::vector<std::vector<Slot>> slots_;  // [num_ranks][max_sequences_per_rank]
  std::vector<RankBatch> launched_;
  std::chrono::steady_clock::time_point launched_at_;
};

}  // namespace moed
