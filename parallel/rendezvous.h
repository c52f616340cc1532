// Where the rank threads of a process meet for a collective.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "kernels/core/mutex.h"
#include "parallel/collective_call.h"

namespace moed {

// What a rank finds when all have arrived.
struct Meeting {
  std::vector<CollectiveCall> calls;  // by rank
  bool must_depart = false;           // some rank lends its memory: call Depart after reading
};

// INVALID_ARGUMENT for fewer ranks than one, or a deadline outside 1 ms to 24 hours.
absl::Status CheckGroup(int num_ranks, std::chrono::milliseconds deadline);

// A barrier with a count of its rounds, a deadline and a check that all came for the same. Only the
// last to arrive wakes the others, all at once: one wake-up a rank and round. Nothing spins.
//
// A failure is for good, and the same for all ranks. A rank learns of it only after the others have
// stopped reading the memory it lent, so it may free it.
// Any thread may call; Arrive and Depart of a rank come from its own thread only.
class Rendezvous {
 public:
  Rendezvous(int num_ranks, std::chrono::milliseconds deadline);

  // Waits until every rank has come, at most until the deadline after the first did. UNAVAILABLE
  // names the ranks at fault and where the others stood. `meeting` is reused: it allocates once.
  absl::Status Arrive(int rank, const CollectiveCall& call, Meeting& meeting);
  // After an Arrive with must_depart: `rank` has read; waits until all have.
  absl::Status Depart(int rank);

  // Ends the group on behalf of `rank`, or of its owner where rank is kOwner.
  static constexpr int kOwner = -1;
  void Abort(int rank, const absl::Status& reason);
  // `rank` will not come again: who waits for it, or comes to, fails at once.
  void Leave(int rank);

  // Ranks that wait now.
  int num_waiting() const;

 private:
  // Waits for the round to be full; the caller has been counted and is not the last.
  absl::Status AwaitRound(int rank) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Counts `rank` in. True when it is the last, and the next round has begun.
  bool EnterRound(int rank) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(const absl::Status& failure) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status FailureAfterReaders() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FailIfAbsentRankLeft() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string ListRanks(bool arrived) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // "; ranks 0, 2 waited in combine of layer 1, step 7", or nothing when no rank waits.
  std::string DescribeWaiting() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int num_ranks_;
  const std::chrono::milliseconds deadline_;

  mutable Mutex mutex_;
  CondVar round_over_;    // signalled when a round is full, and on failure
  CondVar readers_gone_;  // signalled after a failure when nobody reads lent memory
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  uint64_t round_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_arrived_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_reading_ ABSL_GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point round_deadline_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> has_arrived_ ABSL_GUARDED_BY(mutex_);         // [num_ranks], this round
  std::vector<bool> has_left_ ABSL_GUARDED_BY(mutex_);            // [num_ranks]
  std::vector<CollectiveCall> arriving_ ABSL_GUARDED_BY(mutex_);  // [num_ranks], latest call
  // The calls of the last full round; the next one cannot fill before all have taken them.
  Meeting met_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
