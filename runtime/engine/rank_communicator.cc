#include "runtime/engine/rank_communicator.h"

namespace moed {

absl::Status RankCommunicator::AllGather(Stream& stream, const CollectiveTag& tag,
                                         ConstTensorView send, TensorView recv) {
  Enter(tag);
  return Leave(end_->AllGather(stream, tag, send, recv));
}

absl::Status RankCommunicator::AllToAll(Stream& stream, const CollectiveTag& tag,
                                        ConstTensorView send, TensorView recv) {
  Enter(tag);
  return Leave(end_->AllToAll(stream, tag, send, recv));
}

absl::Status RankCommunicator::AllToAllV(Stream& stream, const CollectiveTag& tag,
                                         ConstTensorView send, absl::Span<const int64_t> send_rows,
                                         TensorView recv, absl::Span<const int64_t> recv_rows) {
  Enter(tag);
  return Leave(end_->AllToAllV(stream, tag, send, send_rows, recv, recv_rows));
}

absl::Status RankCommunicator::ExchangeCounts(Stream& stream, const CollectiveTag& tag, int width,
                                              absl::Span<const int64_t> send,
                                              absl::Span<int64_t> recv) {
  Enter(tag);
  return Leave(end_->ExchangeCounts(stream, tag, width, send, recv));
}

absl::Status RankCommunicator::Leave(absl::Status status) {
  if (!status.ok()) failed_ = true;
  heartbeat_.LeaveCollective();
  return status;
}

}  // namespace moed
