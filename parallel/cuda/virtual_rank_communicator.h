// Several ranks of one process on one device.
//
// The host meets, the device copies: at each collective the rank threads meet as those of a
// LocalGroup do (parallel/rendezvous.h: agreement, deadline, abort), and enqueue on their streams;
// the data has not moved when a call returns. For rank r, with stream r:
//
//   1. record ready[r]                   what r sends lies there once stream r has come here
//   2. meet (Rendezvous::Arrive)         now every ready event of this collective is recorded
//   3. for each s that sends to r:       stream r waits for ready[s], then copies s's piece
//   4. record done[r]                    r has read what it will of the others
//   5. meet (Rendezvous::Depart)         now every done event is recorded
//   6. for each s that r sends to:       stream r waits for done[s]: what r writes after this call,
//                                        over what it sent, comes after the others' reads
//
// What r receives needs no event: it is written on r's own stream, after all that used the buffer.
// One event of each sort is enough for a rank. A wait means the latest record before it, and
// ready[r] is recorded anew only after step 5, when all have enqueued their waits for the last one
// (step 3); done[r] only after the next step 2, which all come to after step 6.
//
// After a failure, too, step 6 is taken, so that a rank whose stream has run may free what it sent.
// The only wait of the host for the device is in ExchangeCounts.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/mutex.h"
#include "kernels/cuda/cuda_api.h"
#include "parallel/communicator_group.h"

namespace moed::cuda {

struct VirtualRankState;

struct VirtualRankGroupOptions {
  const CudaApi* api = nullptr;  // outlives the group and its ends
  int device = 0;
  std::chrono::milliseconds deadline{30'000};  // as LocalGroupOptions
};

// The streams that its ends are called with are CudaStreams of the device.
class VirtualRankGroup final : public CommunicatorGroup {
 public:
  // INVALID_ARGUMENT for num_ranks < 1 or a deadline out of range; else the runtime's error.
  static absl::StatusOr<std::shared_ptr<VirtualRankGroup>> Create(
      int num_ranks, const VirtualRankGroupOptions& options);
  ~VirtualRankGroup() override;

  int num_ranks() const override;
  std::unique_ptr<Communicator> MakeEnd(int rank) override;
  void Abort(const absl::Status& reason) override;

 private:
  explicit VirtualRankGroup(std::shared_ptr<VirtualRankState> state);

  const std::shared_ptr<VirtualRankState> state_;
  Mutex mutex_;
  std::vector<bool> has_end_ ABSL_GUARDED_BY(mutex_);  // [num_ranks]
};

}  // namespace moed::cuda
