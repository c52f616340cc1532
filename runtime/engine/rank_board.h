// Where the engine's thread and the rank threads meet: batches out, results back.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/mutex.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Thread-safe. The engine's thread calls the first half, rank threads the second. Who waits sleeps.
// A round is one posted batch a rank, or the start of the ranks.
class RankBoard {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // The first round is the start: every rank owes a result.
  explicit RankBoard(int num_ranks);

  // Begins a round; batches[r] for rank r. The last one is over.
  void Post(std::vector<RankBatch> batches);
  enum class Round { kRunning, kDone, kFailed };
  // Waits until the round is over or has failed on some rank, at most until `deadline`.
  Round WaitForRound(TimePoint deadline);
  bool IsFinished(int rank) const;
  // The results of a round that is done, by rank.
  std::vector<RankResult> TakeResults();
  // The first failure that a rank reported.
  absl::Status failure() const;

  // Ends every rank that waits in Take, now or later.
  void Stop();
  // Waits until every rank has left, at most until `deadline`; whether all have.
  bool WaitForExit(TimePoint deadline);
  bool HasLeft(int rank) const;

  // Waits for the next batch; false when the rank shall end.
  bool Take(int rank, RankBatch& batch);
  void Finish(int rank, absl::StatusOr<RankResult> result);
  // The rank's last call.
  void Leave(int rank);

 private:
  struct Rank {
    CondVar work_posted;  // signalled when a batch is posted, and on Stop
    bool has_batch = false;
    bool finished = false;
    bool left = false;
    RankBatch batch;
    RankResult result;
  };

  mutable Mutex mutex_;
  CondVar rank_changed_;  // signalled when a round ends or fails, and when a rank leaves
  std::vector<std::unique_ptr<Rank>> ranks_ ABSL_GUARDED_BY(mutex_);
  int num_running_ ABSL_GUARDED_BY(mutex_);
  int num_present_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
