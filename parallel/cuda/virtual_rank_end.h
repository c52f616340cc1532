// One rank thread's end of a VirtualRankGroup.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/cuda/cuda_stream.h"
#include "parallel/collective_call.h"
#include "parallel/communicator.h"
#include "parallel/cuda/virtual_rank_state.h"
#include "parallel/rendezvous.h"

namespace moed::cuda {

// The order of each call: parallel/cuda/virtual_rank_communicator.h.
class VirtualRankEnd final : public Communicator {
 public:
  VirtualRankEnd(int rank, std::shared_ptr<VirtualRankState> state);
  ~VirtualRankEnd() override;

  int rank() const override { return rank_; }
  int num_ranks() const override { return num_ranks_; }
  absl::Status AllGather(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                         TensorView recv) override;
  absl::Status AllToAll(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                        TensorView recv) override;
  absl::Status AllToAllV(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                         absl::Span<const int64_t> send_rows, TensorView recv,
                         absl::Span<const int64_t> recv_rows) override;
  absl::Status ExchangeCounts(Stream& stream, const CollectiveTag& tag, int width,
                              absl::Span<const int64_t> send, absl::Span<int64_t> recv) override;
  void Abort(const absl::Status& reason) override;
  CommunicatorStats stats() const override { return stats_; }

 private:
  // Steps 1 to 6 of a collective whose data lies on the device.
  absl::Status Exchange(CudaStream& stream, CollectiveCall call, void* recv);
  absl::Status Arrive(const CollectiveCall& call);
  absl::Status Depart();
  void CopyPieces(CudaStream& stream, void* recv);
  void WaitForReaders(CudaStream& stream);
  // The stream goes on when `peer` has read.
  void WaitForDone(CudaStream& stream, int peer);
  // A call of the runtime that fails ends the group: what the others wait for may never come.
  void AbortOnError(CudaStream& stream, CudaError error);

  VirtualRankState::Rank& RankState(int rank) { return state_->ranks[static_cast<size_t>(rank)]; }

  const int rank_;
  const int num_ranks_;
  const std::shared_ptr<VirtualRankState> state_;
  Meeting meeting_;
  uint64_t num_count_exchanges_ = 0;
  // Kept here, so that a rank that has failed never writes what others still read.
  absl::Status failure_;
  CommunicatorStats stats_;
};

}  // namespace moed::cuda
