#include "parallel/collective_call.h"

#include <cstddef>
#include <numeric>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/core/check.h"
#include "kernels/core/dtype.h"

namespace moed {
namespace {

const char* KindName(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kAllGather:
      return "all-gather";
    case CollectiveKind::kAllToAll:
      return "all-to-all";
    case CollectiveKind::kAllToAllV:
      return "all-to-all with counts";
    case CollectiveKind::kExchangeCounts:
      return "exchange of counts";
  }
  return "unknown collective";
}

std::string DescribeCall(const CollectiveCall& call) {
  return absl::StrCat(KindName(call.kind), " for ", DescribeTag(call.tag), ", with ",
                      call.unit_bytes,
                      call.kind == CollectiveKind::kAllToAllV ? " bytes a row" : " bytes a rank");
}

int64_t RowBytes(const ConstTensorView& view) {
  int64_t bytes = DTypeBytes(view.dtype());
  for (int axis = 1; axis < view.rank(); ++axis) bytes *= view.dim(axis);
  return bytes;
}

int64_t Sum(absl::Span<const int64_t> values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

// The sizes of an all-to-all with counts match by pair and are checked apart.
bool IsSameCall(const CollectiveCall& a, const CollectiveCall& b) {
  return a.kind == b.kind && a.tag.step == b.tag.step && a.tag.layer == b.tag.layer &&
         absl::string_view(a.tag.operation) == absl::string_view(b.tag.operation) &&
         a.unit_bytes == b.unit_bytes;
}

// The first rank whose call most ranks share.
size_t RankOfCommonCall(absl::Span<const CollectiveCall> calls) {
  size_t common = 0;
  size_t most = 0;
  for (size_t rank = 0; rank < calls.size(); ++rank) {
    size_t alike = 0;
    for (const CollectiveCall& other : calls) alike += IsSameCall(calls[rank], other) ? 1 : 0;
    if (alike > most) {
      most = alike;
      common = rank;
    }
  }
  return common;
}

absl::Status CheckCounts(absl::Span<const CollectiveCall> calls) {
  for (size_t sender = 0; sender < calls.size(); ++sender) {
    for (size_t receiver = 0; receiver < calls.size(); ++receiver) {
      const int64_t sent = calls[sender].send_rows[receiver];
      const int64_t expected = calls[receiver].recv_rows[sender];
      if (sent == expected) continue;
      return absl::UnavailableError(absl::StrCat("rank ", sender, " sends ", sent, " rows to rank ",
                                                 receiver, ", which expects ", expected, ", for ",
                                                 DescribeTag(calls[0].tag)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

CollectiveCall AllGatherCall(int num_ranks, const CollectiveTag& tag, const ConstTensorView& send,
                             const ConstTensorView& recv) {
  MOED_CHECK(recv.bytes() == send.bytes() * num_ranks, "an all-gather's sizes do not match");
  CollectiveCall call;
  call.kind = CollectiveKind::kAllGather;
  call.tag = tag;
  call.unit_bytes = send.bytes();
  call.send = static_cast<const std::byte*>(send.raw());
  return call;
}

CollectiveCall AllToAllCall(int num_ranks, const CollectiveTag& tag, const ConstTensorView& send,
                            const ConstTensorView& recv) {
  MOED_CHECK(recv.bytes() == send.bytes() && send.bytes() % num_ranks == 0,
             "an all-to-all's sizes do not match");
  CollectiveCall call;
  call.kind = CollectiveKind::kAllToAll;
  call.tag = tag;
  call.unit_bytes = send.bytes() / num_ranks;
  call.send = static_cast<const std::byte*>(send.raw());
  return call;
}

CollectiveCall AllToAllVCall(int num_ranks, const CollectiveTag& tag, const ConstTensorView& send,
                             absl::Span<const int64_t> send_rows, const ConstTensorView& recv,
                             absl::Span<const int64_t> recv_rows) {
  const auto num_counts = static_cast<size_t>(num_ranks);
  MOED_CHECK(send_rows.size() == num_counts && recv_rows.size() == num_counts,
             "an all-to-all needs a count for every rank");
  MOED_CHECK(RowBytes(recv) == RowBytes(send), "an all-to-all's rows differ in size");
  MOED_CHECK(Sum(send_rows) <= send.dim(0) && Sum(recv_rows) <= recv.dim(0),
             "an all-to-all's counts exceed its buffers");
  CollectiveCall call;
  call.kind = CollectiveKind::kAllToAllV;
  call.tag = tag;
  call.unit_bytes = RowBytes(send);
  call.send_rows = send_rows;
  call.recv_rows = recv_rows;
  call.send = static_cast<const std::byte*>(send.raw());
  return call;
}

CollectiveCall ExchangeCountsCall(int num_ranks, const CollectiveTag& tag, int width,
                                  absl::Span<const int64_t> send, absl::Span<const int64_t> recv) {
  const size_t num_counts = static_cast<size_t>(num_ranks) * static_cast<size_t>(width);
  MOED_CHECK(send.size() == num_counts && recv.size() == num_counts,
             "an exchange of counts needs `width` numbers for every rank");
  CollectiveCall call;
  call.kind = CollectiveKind::kExchangeCounts;
  call.tag = tag;
  call.unit_bytes = width * static_cast<int64_t>(sizeof(int64_t));
  call.send = reinterpret_cast<const std::byte*>(send.data());
  return call;
}

int64_t PieceBytes(const CollectiveCall& sender, int receiver) {
  if (sender.kind != CollectiveKind::kAllToAllV) return sender.unit_bytes;
  return sender.send_rows[static_cast<size_t>(receiver)] * sender.unit_bytes;
}

int64_t PieceOffsetBytes(const CollectiveCall& sender, int receiver) {
  switch (sender.kind) {
    case CollectiveKind::kAllGather:
      return 0;
    case CollectiveKind::kAllToAll:
    case CollectiveKind::kExchangeCounts:
      return receiver * sender.unit_bytes;
    case CollectiveKind::kAllToAllV:
      return Sum(sender.send_rows.subspan(0, static_cast<size_t>(receiver))) * sender.unit_bytes;
  }
  return 0;
}

std::string DescribeTag(const CollectiveTag& tag) {
  const std::string place =
      tag.layer < 0 ? std::string("outside the layers") : absl::StrCat("of layer ", tag.layer);
  return absl::StrCat(tag.operation, " ", place, ", step ", tag.step);
}

absl::Status CheckAgreement(absl::Span<const CollectiveCall> calls) {
  for (size_t rank = 1; rank < calls.size(); ++rank) {
    if (IsSameCall(calls[0], calls[rank])) continue;
    const size_t common = RankOfCommonCall(calls);
    const size_t odd = common == 0 ? rank : 0;
    return absl::UnavailableError(absl::StrCat("rank ", odd, " called ", DescribeCall(calls[odd]),
                                               ", where rank ", common, " called ",
                                               DescribeCall(calls[common])));
  }
  if (calls[0].kind == CollectiveKind::kAllToAllV) return CheckCounts(calls);
  return absl::OkStatus();
}

}  // namespace moed
