// What a rank says when it comes to a collective, and whether all have come for the same one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "parallel/communicator.h"

namespace moed {

enum class CollectiveKind : uint8_t { kAllGather, kAllToAll, kAllToAllV, kExchangeCounts };

// Sizes are those that must match between the ranks.
struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::kAllGather;
  CollectiveTag tag;
  // All-to-all with counts: of one row; otherwise: what one rank sends to one other.
  int64_t unit_bytes = 0;
  absl::Span<const int64_t> send_rows;  // [num_ranks], all-to-all with counts only
  absl::Span<const int64_t> recv_rows;  // [num_ranks], all-to-all with counts only
  const std::byte* send = nullptr;      // what the others read
  bool lends_send = false;  // `send` is the caller's own memory: it must wait until all have read
};

// "combine of layer 3, step 17".
std::string DescribeTag(const CollectiveTag& tag);

// OK when the calls, one of each rank by rank, are one collective with sizes that match. Otherwise
// UNAVAILABLE with a text that names the rank at odds with most of the others, and both calls.
absl::Status CheckAgreement(absl::Span<const CollectiveCall> calls);

}  // namespace moed
