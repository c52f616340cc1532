// The exchange seam: how ranks exchange data.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"

namespace moed {

// Which exchange a call is, so that an error can say where the group stood.
struct CollectiveTag {
  uint64_t step = 0;
  int32_t layer = 0;           // -1: outside the layers
  const char* operation = "";  // static text: "dispatch rows", "combine", ...
};

struct CommunicatorStats {
  int64_t bytes_sent = 0;  // to other ranks, its own share excluded
  int64_t bytes_received = 0;
  double wait_seconds = 0;  // spent waiting for other ranks
};

// One rank's end of the group. All ranks call the same collectives in the same order with sizes
// that match; a rank with nothing to send still calls. Calls are enqueued on the stream and run in
// its order (in-process ranks: they have run when they return). Views are device memory.
//
// Errors: when a rank does not arrive within the deadline, calls differ between ranks, or the group
// was aborted, every rank's call returns UNAVAILABLE (a fault of the group) with a text that names
// the rank, the layer and the collective at fault. From then on every call returns that error.
// Used by one thread; Abort alone may be called from any.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int num_ranks() const = 0;

  // recv[r * n + i] = send[i] of rank r. send [n, ...], recv [num_ranks * n, ...]; n equal on all.
  virtual absl::Status AllGather(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                                 TensorView recv) = 0;

  // Equal counts: recv rows [r * n, (r + 1) * n) = send rows [me * n, (me + 1) * n) of rank r.
  // Both [num_ranks * n, ...].
  virtual absl::Status AllToAll(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                                TensorView recv) = 0;

  // Per-peer counts of rows, known on the host; both buffers lie by rank without gaps.
  // send_rows[r] here must equal recv_rows[me] on rank r. The views may be larger than the sums.
  virtual absl::Status AllToAllV(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                                 absl::Span<const int64_t> send_rows, TensorView recv,
                                 absl::Span<const int64_t> recv_rows) = 0;

  // recv[r] = send[me] of rank r; host memory, `width` numbers a rank: both [num_ranks * width].
  // Waits on the host until the stream has run and the counts are here.
  virtual absl::Status ExchangeCounts(Stream& stream, const CollectiveTag& tag, int width,
                                      absl::Span<const int64_t> send, absl::Span<int64_t> recv) = 0;

  // Ends the group: ranks that wait now or call later return UNAVAILABLE with the text of `reason`
  // (not OK). The first failure of a group stays; a later Abort changes nothing.
  virtual void Abort(const absl::Status& reason) = 0;

  virtual CommunicatorStats stats() const = 0;
};

}  // namespace moed
