// The gather strategy: every rank sees all rows, padded to one length, and answers in static slots.
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "parallel/dispatch_buffers.h"
#include "parallel/token_dispatcher.h"

namespace moed {

absl::Status TokenDispatcher::DispatchGather(Stream& stream, DispatchBuffers& buffers,
                                             int64_t padded_rows) {
  const int64_t num_tokens = buffers.home_rows.dim(0);
  MOED_CHECK(padded_rows >= num_tokens, "a gather step is padded to less than its rows");
  MOED_CHECK(padded_rows <= limits_.max_gather_rows, "a gather step is larger than its limit");
  const DType act = backend_.activation_dtype();

  ConstTensorView rows = buffers.home_rows;
  ConstTensorView ids = buffers.home_ids;
  if (num_tokens < padded_rows) {
    const int64_t num_padding = padded_rows - num_tokens;
    const TensorView padded = buffers.send_rows.View(act, {padded_rows, limits_.hidden});
    const TensorView padded_ids =
        buffers.send_ids.View(DType::kInt32, {padded_rows, limits_.top_k});
    const ConstTensorView own_rows = first_rows_.View(DType::kInt32, {num_tokens});
    // What the padding rows hold is never read: their ids name no expert.
    backend_.GatherRows(stream,
                        {.x = rows, .row_index = own_rows, .out = padded.Rows(0, num_tokens)});
    backend_.GatherRows(stream,
                        {.x = ids, .row_index = own_rows, .out = padded_ids.Rows(0, num_tokens)});
    backend_.GatherRows(stream, {.x = padding_ids_.View(DType::kInt32, {1, limits_.top_k}),
                                 .row_index = zeros_.View(DType::kInt32, {num_padding}),
                                 .out = padded_ids.Rows(num_tokens, num_padding)});
    rows = padded;
    ids = padded_ids;
  }

  const int64_t num_arrived = placement_.num_ranks() * padded_rows;
  const TensorView arrived_rows = buffers.arrived_rows.View(act, {num_arrived, limits_.hidden});
  const TensorView arrived_ids =
      buffers.arrived_ids.View(DType::kInt32, {num_arrived, limits_.top_k});
  MOED_RETURN_IF_ERROR(
      communicator_.AllGather(stream, buffers.Tag("dispatch rows"), rows, arrived_rows));
  MOED_RETURN_IF_ERROR(
      communicator_.AllGather(stream, buffers.Tag("dispatch ids"), ids, arrived_ids));
  buffers.arrived_rows_view = arrived_rows;
  buffers.arrived_ids_view = arrived_ids;
  GroupArrivedRows(stream, buffers, slots_per_row_);
  IndexSlots(stream, buffers, padded_rows);
  return absl::OkStatus();
}

absl::StatusOr<ConstTensorView> TokenDispatcher::BringHomeGather(Stream& stream,
                                                                 DispatchBuffers& buffers) {
  const TensorView contributions = buffers.contributions.View(
      backend_.activation_dtype(), {buffers.expert_output_view.dim(0), limits_.hidden});
  MOED_RETURN_IF_ERROR(communicator_.AllToAll(stream, buffers.Tag("combine"),
                                              buffers.expert_output_view, contributions));
  return contributions;
}

}  // namespace moed
