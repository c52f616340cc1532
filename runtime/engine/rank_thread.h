// The life of one rank's thread: load, allocate, then a step for every batch.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/mutex.h"
#include "parallel/communicator.h"
#include "parallel/expert_placement.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/model_weights.h"
#include "runtime/checkpoint/weight_source.h"
#include "runtime/engine/rank_board.h"
#include "runtime/engine/worker.h"
#include "runtime/engine/worker_group.h"
#include "runtime/model/heartbeat.h"

namespace moed {

// The replicated weights: one rank loads them, the others wait for them. Thread-safe.
class SharedReplicatedWeights {
 public:
  void Publish(absl::StatusOr<std::unique_ptr<ReplicatedWeights>> loaded);
  // Blocks until published.
  absl::StatusOr<const ReplicatedWeights*> Wait();

 private:
  Mutex mutex_;
  CondVar published_;
  bool is_published_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<ReplicatedWeights> weights_ ABSL_GUARDED_BY(mutex_);
};

// Passes progress on, one call at a time, and remembers that the start was cancelled.
class StartProgress {
 public:
  // `callback` may be empty; it is not called after Finish.
  void Begin(const RankProgressCallback* callback);
  void Finish();
  void Cancel() { cancelled_.store(true); }
  // False when the start is cancelled.
  bool Report(const RankProgress& progress);

 private:
  Mutex mutex_;
  const RankProgressCallback* callback_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::atomic<bool> cancelled_{false};
};

// What the rank threads share. Each holds it, so that a thread that hangs and is left behind still
// finds it.
struct RankThreadContext {
  // `num_threads` ranks of the placement, from `first` on, have threads here.
  RankThreadContext(ModelConfig model, ExpertPlacement expert_placement, int first, int num_threads,
                    WorkerLimits worker_limits, std::shared_ptr<WeightSource> weight_source);

  const ModelConfig config;
  const ExpertPlacement placement;
  const int first_rank;  // rank of the placement that thread 0 is; 0 but for an emulated rank
  const WorkerLimits limits;
  const std::shared_ptr<WeightSource> source;
  std::vector<std::unique_ptr<Backend>> backends;  // [num_threads]; outlive the weights they packed
  SharedReplicatedWeights replicated;
  StartProgress progress;
  RankBoard board;
  std::vector<Heartbeat> heartbeats;  // [num_threads]
};

// The rank's thread. Finishes the board's first round when the rank is ready or has failed to
// start, then one round a batch, until the board stops or a step fails. Catches what is thrown. A
// failed step has aborted the group, with the rank, the layer and the place in its text.
void RunRankThread(const std::shared_ptr<RankThreadContext>& context, int rank,
                   std::unique_ptr<Communicator> end);

// "rank 3, layer 1, attention, after combine of layer 0".
std::string DescribePlace(int rank, const Heartbeat::Reading& reading);

}  // namespace moed
