// The exact strategy: counts first, then every row once to each rank that holds one of its experts,
// and one contribution a pair back.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "parallel/dispatch_buffers.h"
#include "parallel/token_dispatcher.h"

namespace moed {
namespace {

int64_t Sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

// Splits the agreed counts into the four lists of the two all-to-alls.
void SplitCounts(DispatchBuffers& buffers, int64_t max_rows, int64_t slots_per_row) {
  for (size_t rank = 0; rank < buffers.rows_to.size(); ++rank) {
    buffers.rows_to[rank] = buffers.own_counts[2 * rank];
    buffers.replies_from[rank] = buffers.own_counts[2 * rank + 1];
    buffers.rows_from[rank] = buffers.peer_counts[2 * rank];
    buffers.replies_to[rank] = buffers.peer_counts[2 * rank + 1];
    MOED_CHECK(buffers.rows_from[rank] >= 0 && buffers.rows_from[rank] <= max_rows,
               "a rank sends more rows than the limits allow");
    MOED_CHECK(buffers.replies_to[rank] >= 0 &&
                   buffers.replies_to[rank] <= buffers.rows_from[rank] * slots_per_row,
               "a rank expects more contributions than its rows can have");
  }
}

}  // namespace

absl::Status TokenDispatcher::PlanExact(Stream& stream, DispatchBuffers& buffers) {
  const int64_t num_tokens = buffers.home_rows.dim(0);
  const int64_t num_ranks = placement_.num_ranks();
  std::fill(buffers.planned_counts.begin(), buffers.planned_counts.end(), 0);
  if (num_tokens > 0) {
    const TensorView counts = buffers.counts.View(DType::kInt32, {2 * num_ranks});
    backend_.PlanSend(
        stream, PlanSendArgs{.topk_ids = buffers.home_ids,
                             .rank_of_expert = RankOfExpert(buffers.layer),
                             .send_row_index = buffers.send_row_index.View(
                                 DType::kInt32, {num_tokens * std::min(limits_.top_k, num_ranks)}),
                             .send_counts = counts.Rows(0, num_ranks),
                             .reply_counts = counts.Rows(num_ranks, num_ranks),
                             .contribution_index = buffers.contribution_index.View(
                                 DType::kInt32, {num_tokens, limits_.top_k})});
    backend_.CopyToHost(stream, counts,
                        TensorView(buffers.planned_counts.data(), DType::kInt32, {2 * num_ranks}));
    // The host wait of this strategy: the all-to-alls need the counts as numbers.
    MOED_RETURN_IF_ERROR(backend_.Synchronize(stream));
  }
  const auto ranks = static_cast<size_t>(num_ranks);
  for (size_t rank = 0; rank < ranks; ++rank) {
    buffers.own_counts[2 * rank] = buffers.planned_counts[rank];
    buffers.own_counts[2 * rank + 1] = buffers.planned_counts[ranks + rank];
  }
  MOED_RETURN_IF_ERROR(communicator_.ExchangeCounts(stream, buffers.Tag("dispatch counts"), 2,
                                                    buffers.own_counts,
                                                    absl::MakeSpan(buffers.peer_counts)));
  SplitCounts(buffers, limits_.max_rows, slots_per_row_);
  return absl::OkStatus();
}

absl::Status TokenDispatcher::DispatchExact(Stream& stream, DispatchBuffers& buffers) {
  MOED_RETURN_IF_ERROR(PlanExact(stream, buffers));
  const DType act = backend_.activation_dtype();
  const int64_t num_sent = Sum(buffers.rows_to);
  const int64_t num_arrived = Sum(buffers.rows_from);

  const ConstTensorView send_row_index = buffers.send_row_index.View(DType::kInt32, {num_sent});
  const TensorView send_rows = buffers.send_rows.View(act, {num_sent, limits_.hidden});
  const TensorView send_ids = buffers.send_ids.View(DType::kInt32, {num_sent, limits_.top_k});
  backend_.GatherRows(stream,
                      {.x = buffers.home_rows, .row_index = send_row_index, .out = send_rows});
  backend_.GatherRows(stream,
                      {.x = buffers.home_ids, .row_index = send_row_index, .out = send_ids});

  const TensorView arrived_rows = buffers.arrived_rows.View(act, {num_arrived, limits_.hidden});
  const TensorView arrived_ids =
      buffers.arrived_ids.View(DType::kInt32, {num_arrived, limits_.top_k});
  MOED_RETURN_IF_ERROR(communicator_.AllToAllV(stream, buffers.Tag("dispatch rows"), send_rows,
                                               buffers.rows_to, arrived_rows, buffers.rows_from));
  MOED_RETURN_IF_ERROR(communicator_.AllToAllV(stream, buffers.Tag("dispatch ids"), send_ids,
                                               buffers.rows_to, arrived_ids, buffers.rows_from));
  buffers.arrived_rows_view = arrived_rows;
  buffers.arrived_ids_view = arrived_ids;
  // Compact by arrived row, and rows arrive by rank: the results lie ready to be sent back.
  GroupArrivedRows(stream, buffers, /*slots_per_row=*/0);
  buffers.expert_output_view =
      buffers.expert_output.View(act, {Sum(buffers.replies_to), limits_.hidden});
  return absl::OkStatus();
}

absl::StatusOr<ConstTensorView> TokenDispatcher::BringHomeExact(Stream& stream,
                                                                DispatchBuffers& buffers) {
  const TensorView contributions = buffers.contributions.View(
      backend_.activation_dtype(), {Sum(buffers.replies_from), limits_.hidden});
  MOED_RETURN_IF_ERROR(communicator_.AllToAllV(stream, buffers.Tag("combine"),
                                               buffers.expert_output_view, buffers.replies_to,
                                               contributions, buffers.replies_from));
  return contributions;
}

}  // namespace moed
