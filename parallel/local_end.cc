#include "parallel/local_end.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

LocalEnd::LocalEnd(int rank, std::shared_ptr<Rendezvous> rendezvous,
                   std::shared_ptr<std::vector<Mailbox>> mailboxes)
    : rank_(rank),
      num_ranks_(static_cast<int>(mailboxes->size())),
      rendezvous_(std::move(rendezvous)),
      mailboxes_(std::move(mailboxes)) {
  meeting_.calls.resize(mailboxes_->size());
}

LocalEnd::~LocalEnd() { rendezvous_->Leave(rank_); }

absl::Status LocalEnd::AllGather(Stream& /*stream*/, const CollectiveTag& tag, ConstTensorView send,
                                 TensorView recv) {
  return Exchange(AllGatherCall(num_ranks_, tag, send, recv), send.bytes(), recv.raw());
}

absl::Status LocalEnd::AllToAll(Stream& /*stream*/, const CollectiveTag& tag, ConstTensorView send,
                                TensorView recv) {
  return Exchange(AllToAllCall(num_ranks_, tag, send, recv), send.bytes(), recv.raw());
}

absl::Status LocalEnd::AllToAllV(Stream& /*stream*/, const CollectiveTag& tag, ConstTensorView send,
                                 absl::Span<const int64_t> send_rows, TensorView recv,
                                 absl::Span<const int64_t> recv_rows) {
  CollectiveCall call = AllToAllVCall(num_ranks_, tag, send, send_rows, recv, recv_rows);
  MOED_RETURN_IF_ERROR(failure_);
  Mailbox::Mail& mail = NextMail();
  std::copy(send_rows.begin(), send_rows.end(), mail.send_rows.begin());
  std::copy(recv_rows.begin(), recv_rows.end(), mail.recv_rows.begin());
  call.send_rows = mail.send_rows;
  call.recv_rows = mail.recv_rows;
  const int64_t num_send_rows = std::accumulate(send_rows.begin(), send_rows.end(), int64_t{0});
  return Exchange(call, num_send_rows * call.unit_bytes, recv.raw());
}

absl::Status LocalEnd::ExchangeCounts(Stream& /*stream*/, const CollectiveTag& tag, int width,
                                      absl::Span<const int64_t> send, absl::Span<int64_t> recv) {
  const CollectiveCall call = ExchangeCountsCall(num_ranks_, tag, width, send, recv);
  return Exchange(call, num_ranks_ * call.unit_bytes, recv.data());
}

void LocalEnd::Abort(const absl::Status& reason) { rendezvous_->Abort(rank_, reason); }

absl::Status LocalEnd::Exchange(CollectiveCall call, int64_t send_bytes, void* recv) {
  MOED_RETURN_IF_ERROR(failure_);
  const std::byte* const send = call.send;
  call.lends_send = send_bytes > kMailboxBytes;
  if (!call.lends_send) {
    Mailbox::Mail& mail = NextMail();
    if (send_bytes > 0) std::memcpy(mail.payload.data(), send, static_cast<size_t>(send_bytes));
    call.send = static_cast<const std::byte*>(mail.payload.data());
  }

  const auto arrived = std::chrono::steady_clock::now();
  failure_ = rendezvous_->Arrive(rank_, call, meeting_);
  stats_.wait_seconds += SecondsSince(arrived);
  MOED_RETURN_IF_ERROR(failure_);
  ++num_met_;

  CopyPieces(send, recv);
  if (meeting_.must_depart) {
    const auto departed = std::chrono::steady_clock::now();
    failure_ = rendezvous_->Depart(rank_);
    stats_.wait_seconds += SecondsSince(departed);
  }
  return failure_;
}

void LocalEnd::CopyPieces(const std::byte* own_send, void* recv) {
  auto* out = static_cast<std::byte*>(recv);
  const CollectiveCall& own = meeting_.calls[static_cast<size_t>(rank_)];
  for (int sender = 0; sender < num_ranks_; ++sender) {
    const CollectiveCall& call = meeting_.calls[static_cast<size_t>(sender)];
    const int64_t bytes = PieceBytes(call, rank_);
    if (bytes > 0) {
      const auto* from = sender == rank_ ? own_send : call.send;
      std::memcpy(out, from + PieceOffsetBytes(call, rank_), static_cast<size_t>(bytes));
      out += bytes;
    }
    if (sender == rank_) continue;
    stats_.bytes_received += bytes;
    stats_.bytes_sent += PieceBytes(own, sender);
  }
}

}  // namespace moed
