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

// The calls of a group of `num_ranks` ranks. Sizes that do not match are our own bug and abort. The
// spans are kept, and where the piece for each rank lies follows from them.
CollectiveCall AllGatherCall(int num_ranks, const CollectiveTag& tag, const ConstTensorView& send,
                             const ConstTensorView& recv);
CollectiveCall AllToAllCall(int num_ranks, const CollectiveTag& tag, const ConstTensorView& send,
                            const ConstTensorView& recv);
CollectiveCall AllToAllVCall(int num_ranks, const CollectiveTag& tag, const ConstTensorView& send,
                             absl::Span<const int64_t> send_rows, const ConstTensorView& recv,
                             absl::Span<const int64_t> recv_rows);
CollectiveCall ExchangeCountsCall(int num_ranks, const CollectiveTag& tag, int width,
                                  absl::Span<const int64_t> send, absl::Span<const int64_t> recv);

// The piece that `sender`'s call has for rank `receiver`: its length, and where in `send` it
// begins.
int64_t PieceBytes(const CollectiveCall& sender, int receiver);
int64_t PieceOffsetBytes(const CollectiveCall& sender, int receiver);

// "combine of layer 3, step 17".
std::string DescribeTag(const CollectiveTag& tag);

// OK when the calls, one of each rank by rank, are one collective with sizes that match. Otherwise
// UNAVAILABLE with a text that names the rank at odds with most of the others, and both calls.
absl::Status CheckAgreement(absl::Span<const CollectiveCall> calls);

}  // namespace moed
