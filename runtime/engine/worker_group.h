// Where ranks run: the third seam. Threads of the daemon now, processes of their own later.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Progress of one rank while the group starts. Called from any thread.
struct RankProgress {
  int rank = 0;
  const char* phase = "";  // "replicated weights", "expert weights", "kv cache", "ready"
  double fraction = 0;     // [0, 1] of the phase
};
// Returning false cancels the start, which then ends CANCELLED.
using RankProgressCallback = std::function<bool(const RankProgress&)>;

// What the ranks settled on at start; equal on all.
struct WorkerGroupInfo {
  int num_ranks = 0;
  int exchange_ranks = 0;  // that rows go between; 0: num_ranks. More where a rank is emulated
  int64_t num_kv_blocks_per_rank = 0;
  int32_t max_sequences_per_rank = 0;
  int32_t max_rows_per_step = 0;  // a rank's token budget
  int32_t max_gather_rows = 0;    // DispatcherLimits::max_gather_rows; 0: never gather
  int32_t block_size = 0;         // tokens of a KV block
  int num_layers = 0;
  int num_experts = 0;
  int experts_per_token = 0;      // the model's k
  int max_experts_per_token = 0;  // most that a request may ask for
  int32_t vocab = 0;
  std::string backend;  // Backend::Description()
};

// Used by the engine thread alone, after Start. At most one step is launched and not awaited.
class WorkerGroup {
 public:
  virtual ~WorkerGroup() = default;

  // Loads weights and allocates all memory; blocks. RESOURCE_EXHAUSTED with numbers when it does
  // not fit, otherwise the checkpoint's error.
  virtual absl::StatusOr<WorkerGroupInfo> Start(const RankProgressCallback& progress) = 0;

  // One batch per rank, batches[r] for rank r. Returns once the ranks have been told.
  virtual absl::Status Launch(std::vector<RankBatch> batches) = 0;

  // Blocks until the launched step has run on all ranks; results[r] of rank r. After an error
  // (UNAVAILABLE, names rank, layer and collective) the group is broken for good.
  virtual absl::StatusOr<std::vector<RankResult>> Await() = 0;

  // Ends the ranks; blocks at most about the rank timeout. False when a rank hangs and its thread
  // had to be left behind: the process must then exit without destroying the group.
  virtual bool Stop() = 0;
};

}  // namespace moed
