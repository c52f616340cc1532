// A rank's end of the group that also tells the watcher which collective the rank is in.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "parallel/communicator.h"
#include "runtime/model/heartbeat.h"

namespace moed {

// Forwards every call to `end`. `heartbeat` outlives it.
class RankCommunicator final : public Communicator {
 public:
  RankCommunicator(std::unique_ptr<Communicator> end, Heartbeat& heartbeat)
      : end_(std::move(end)), heartbeat_(heartbeat) {}

  // Whether a collective has failed: the group's error, which names who is at fault already.
  bool failed() const { return failed_; }

  int rank() const override { return end_->rank(); }
  int num_ranks() const override { return end_->num_ranks(); }
  absl::Status AllGather(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                         TensorView recv) override;
  absl::Status AllToAll(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                        TensorView recv) override;
  absl::Status AllToAllV(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                         absl::Span<const int64_t> send_rows, TensorView recv,
                         absl::Span<const int64_t> recv_rows) override;
  absl::Status ExchangeCounts(Stream& stream, const CollectiveTag& tag, int width,
                              absl::Span<const int64_t> send, absl::Span<int64_t> recv) override;
  void Abort(const absl::Status& reason) override { end_->Abort(reason); }
  CommunicatorStats stats() const override { return end_->stats(); }

 private:
  void Enter(const CollectiveTag& tag) { heartbeat_.EnterCollective(tag.layer, tag.operation); }
  absl::Status Leave(absl::Status status);

  const std::unique_ptr<Communicator> end_;
  Heartbeat& heartbeat_;
  bool failed_ = false;
};

}  // namespace moed
