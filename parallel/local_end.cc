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
#include "kernels/core/check.h"
#include "kernels/core/dtype.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

int64_t RowBytes(ConstTensorView view) {
  int64_t bytes = DTypeBytes(view.dtype());
  for (int axis = 1; axis < view.rank(); ++axis) bytes *= view.dim(axis);
  return bytes;
}

int64_t Sum(absl::Span<const int64_t> values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

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
  MOED_CHECK(recv.bytes() == send.bytes() * num_ranks_, "an all-gather's sizes do not match");
  CollectiveCall call;
  call.kind = CollectiveKind::kAllGather;
  call.tag = tag;
  call.unit_bytes = send.bytes();
  return Exchange(call, send.raw(), send.bytes(), recv.raw());
}

absl::Status LocalEnd::AllToAll(Stream& /*stream*/, const CollectiveTag& tag, ConstTensorView send,
                                TensorView recv) {
  MOED_CHECK(recv.bytes() == send.bytes() && send.bytes() % num_ranks_ == 0,
             "an all-to-all's sizes do not match");
  CollectiveCall call;
  call.kind = CollectiveKind::kAllToAll;
  call.tag = tag;
  call.unit_bytes = send.bytes() / num_ranks_;
  return Exchange(call, send.raw(), send.bytes(), recv.raw());
}

absl::Status LocalEnd::AllToAllV(Stream& /*stream*/, const CollectiveTag& tag, ConstTensorView send,
                                 absl::Span<const int64_t> send_rows, TensorView recv,
                                 absl::Span<const int64_t> recv_rows) {
  const auto num_ranks = static_cast<size_t>(num_ranks_);
  MOED_CHECK(send_rows.size() == num_ranks && recv_rows.size() == num_ranks,
             "an all-to-all needs a count for every rank");
  const int64_t row_bytes = RowBytes(send);
  const int64_t num_send_rows = Sum(send_rows);
  MOED_CHECK(RowBytes(recv) == row_bytes, "an all-to-all's rows differ in size");
  MOED_CHECK(num_send_rows <= send.dim(0) && Sum(recv_rows) <= recv.dim(0),
             "an all-to-all's counts exceed its buffers");
  MOED_RETURN_IF_ERROR(failure_);
  Mailbox::Mail& mail = NextMail();
  std::copy(send_rows.begin(), send_rows.end(), mail.send_rows.begin());
  std::copy(recv_rows.begin(), recv_rows.end(), mail.recv_rows.begin());
  CollectiveCall call;
  call.kind = CollectiveKind::kAllToAllV;
  call.tag = tag;
  call.unit_bytes = row_bytes;
  call.send_rows = mail.send_rows;
  call.recv_rows = mail.recv_rows;
  return Exchange(call, send.raw(), num_send_rows * row_bytes, recv.raw());
}

absl::Status LocalEnd::ExchangeCounts(Stream& /*stream*/, const CollectiveTag& tag, int width,
                                      absl::Span<const int64_t> send, absl::Span<int64_t> recv) {
  const size_t num_counts = static_cast<size_t>(num_ranks_) * static_cast<size_t>(width);
  MOED_CHECK(send.size() == num_counts && recv.size() == num_counts,
             "an exchange of counts needs `width` numbers for every rank");
  CollectiveCall call;
  call.kind = CollectiveKind::kExchangeCounts;
  call.tag = tag;
  call.unit_bytes = width * static_cast<int64_t>(sizeof(int64_t));
  return Exchange(call, send.data(), static_cast<int64_t>(num_counts * sizeof(int64_t)),
                  recv.data());
}

void LocalEnd::Abort(const absl::Status& reason) { rendezvous_->Abort(rank_, reason); }

absl::Status LocalEnd::Exchange(CollectiveCall call, const void* send, int64_t send_bytes,
                                void* recv) {
  MOED_RETURN_IF_ERROR(failure_);
  call.lends_send = send_bytes > kMailboxBytes;
  call.send = static_cast<const std::byte*>(send);
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

void LocalEnd::CopyPieces(const void* own_send, void* recv) {
  auto* out = static_cast<std::byte*>(recv);
  const CollectiveCall& own = meeting_.calls[static_cast<size_t>(rank_)];
  for (int sender = 0; sender < num_ranks_; ++sender) {
    const CollectiveCall& call = meeting_.calls[static_cast<size_t>(sender)];
    const int64_t bytes = PieceBytes(call);
    if (bytes > 0) {
      const auto* from = sender == rank_ ? static_cast<const std::byte*>(own_send) : call.send;
      std::memcpy(out, from + PieceOffsetBytes(call), static_cast<size_t>(bytes));
      out += bytes;
    }
    if (sender == rank_) continue;
    stats_.bytes_received += bytes;
    stats_.bytes_sent += own.kind == CollectiveKind::kAllToAllV
                             ? own.send_rows[static_cast<size_t>(sender)] * own.unit_bytes
                             : own.unit_bytes;
  }
}

int64_t LocalEnd::PieceOffsetBytes(const CollectiveCall& sender) const {
  switch (sender.kind) {
    case CollectiveKind::kAllGather:
      return 0;
    case CollectiveKind::kAllToAll:
    case CollectiveKind::kExchangeCounts:
      return rank_ * sender.unit_bytes;
    case CollectiveKind::kAllToAllV:
      return Sum(sender.send_rows.subspan(0, static_cast<size_t>(rank_))) * sender.unit_bytes;
  }
  return 0;
}

int64_t LocalEnd::PieceBytes(const CollectiveCall& sender) const {
  if (sender.kind != CollectiveKind::kAllToAllV) return sender.unit_bytes;
  return sender.send_rows[static_cast<size_t>(rank_)] * sender.unit_bytes;
}

}  // namespace moed
