#include "parallel/collective_call.h"

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

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
