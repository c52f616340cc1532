// One rank's end of a group that is not there: to measure what a step of that rank takes.
#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "parallel/communicator.h"

namespace moed {

// Every other rank is taken to be a copy of this one: it has the same rows, its router chooses
// alike, and it sends this rank what this rank sends to itself. So this rank's experts compute for
// num_ranks times the rows that it would send them, which is what they get from a group under even
// load. What comes back from the others' experts is this rank's own data in their place: a step
// does all its work, and its answers mean nothing.
//
// Copies go through the backend, in the stream's order; nothing waits for anybody.
class EmulatedCommunicator final : public Communicator {
 public:
  // `backend` outlives it. 0 <= rank < num_ranks.
  EmulatedCommunicator(Backend& backend, int rank, int num_ranks);

  int rank() const override { return rank_; }
  int num_ranks() const override { return num_ranks_; }
  absl::Status AllGather(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                         TensorView recv) override;
  absl::Status AllToAll(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                        TensorView recv) override;
  // From every rank the rows that this one sends to itself, repeated where recv_rows says more.
  absl::Status AllToAllV(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                         absl::Span<const int64_t> send_rows, TensorView recv,
                         absl::Span<const int64_t> recv_rows) override;
  // recv[r] = send[me] for every r.
  absl::Status ExchangeCounts(Stream& stream, const CollectiveTag& tag, int width,
                              absl::Span<const int64_t> send, absl::Span<int64_t> recv) override;
  void Abort(const absl::Status& reason) override;
  CommunicatorStats stats() const override { return stats_; }

 private:
  // Rows of `send`, from the first one on and again from the start, until `recv` is full.
  void Repeat(Stream& stream, ConstTensorView send, TensorView recv);

  Backend& backend_;
  const int rank_;
  const int num_ranks_;
  CommunicatorStats stats_;
};

}  // namespace moed
