#include "parallel/emulated_communicator.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "kernels/core/check.h"

namespace moed {

EmulatedCommunicator::EmulatedCommunicator(Backend& backend, int rank, int num_ranks)
    : backend_(backend), rank_(rank), num_ranks_(num_ranks) {
  MOED_CHECK(rank >= 0 && rank < num_ranks, "an emulated rank lies outside its group");
}

void EmulatedCommunicator::Repeat(Stream& stream, ConstTensorView send, TensorView recv) {
  if (send.empty()) return;  // what is there stays: memory is zeroed when it is allocated
  for (int64_t begin = 0; begin < recv.dim(0); begin += send.dim(0)) {
    const int64_t count = std::min(send.dim(0), recv.dim(0) - begin);
    backend_.CopyOnDevice(stream, send.Rows(0, count), recv.Rows(begin, count));
  }
}

absl::Status EmulatedCommunicator::AllGather(Stream& stream, const CollectiveTag& /*tag*/,
                                             ConstTensorView send, TensorView recv) {
  MOED_CHECK(recv.bytes() == send.bytes() * num_ranks_, "an all-gather's sizes do not match");
  Repeat(stream, send, recv);
  stats_.bytes_sent += send.bytes() * (num_ranks_ - 1);
  stats_.bytes_received += send.bytes() * (num_ranks_ - 1);
  return absl::OkStatus();
}

absl::Status EmulatedCommunicator::AllToAll(Stream& stream, const CollectiveTag& /*tag*/,
                                            ConstTensorView send, TensorView recv) {
  MOED_CHECK(recv.bytes() == send.bytes() && send.dim(0) % num_ranks_ == 0,
             "an all-to-all's sizes do not match");
  const int64_t piece = send.dim(0) / num_ranks_;
  Repeat(stream, send.Rows(rank_ * piece, piece), recv);
  const int64_t others = send.bytes() / num_ranks_ * (num_ranks_ - 1);
  stats_.bytes_sent += others;
  stats_.bytes_received += others;
  return absl::OkStatus();
}

absl::Status EmulatedCommunicator::AllToAllV(Stream& stream, const CollectiveTag& /*tag*/,
                                             ConstTensorView send,
                                             absl::Span<const int64_t> send_rows, TensorView recv,
                                             absl::Span<const int64_t> recv_rows) {
  const auto num_ranks = static_cast<size_t>(num_ranks_);
  MOED_CHECK(send_rows.size() == num_ranks && recv_rows.size() == num_ranks,
             "an all-to-all needs a count for every rank");
  int64_t own_begin = 0;
  int64_t num_sent = 0;
  int64_t num_received = 0;
  for (int rank = 0; rank < num_ranks_; ++rank) {
    const auto at = static_cast<size_t>(rank);
    if (rank < rank_) own_begin += send_rows[at];
    num_sent += send_rows[at];
    num_received += recv_rows[at];
  }
  MOED_CHECK(num_sent <= send.dim(0) && num_received <= recv.dim(0),
             "an all-to-all's counts exceed its buffers");
  const auto me = static_cast<size_t>(rank_);
  const ConstTensorView own = send.Rows(own_begin, send_rows[me]);
  // A rank that sends itself nothing may yet get replies: then any row of the right size will do.
  const ConstTensorView source = own.empty() ? send.Rows(0, num_sent) : own;
  // Either may have no rows.
  const int64_t row_bytes = recv.dim(0) > 0   ? recv.bytes() / recv.dim(0)
                            : send.dim(0) > 0 ? send.bytes() / send.dim(0)
                                              : 0;
  int64_t begin = 0;
  for (size_t rank = 0; rank < num_ranks; ++rank) {
    Repeat(stream, source, recv.Rows(begin, recv_rows[rank]));
    begin += recv_rows[rank];
    if (rank == me) continue;
    stats_.bytes_sent += send_rows[rank] * row_bytes;
    stats_.bytes_received += recv_rows[rank] * row_bytes;
  }
  return absl::OkStatus();
}

absl::Status EmulatedCommunicator::ExchangeCounts(Stream& /*stream*/, const CollectiveTag& /*tag*/,
                                                  int width, absl::Span<const int64_t> send,
                                                  absl::Span<int64_t> recv) {
  const auto count = static_cast<size_t>(width);
  MOED_CHECK(send.size() == count * static_cast<size_t>(num_ranks_) && recv.size() == send.size(),
             "an exchange of counts needs `width` numbers for every rank");
  const absl::Span<const int64_t> own = send.subspan(static_cast<size_t>(rank_) * count, count);
  for (size_t at = 0; at < recv.size(); at += count) {
    std::copy(own.begin(), own.end(), recv.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return absl::OkStatus();
}

void EmulatedCommunicator::Abort(const absl::Status& /*reason*/) {
  // Nobody waits, and nobody else is there to be told.
}

}  // namespace moed
