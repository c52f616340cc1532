// Sends rows to the ranks of their experts and brings the contributions home.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/dtype.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "parallel/communicator.h"
#include "parallel/exchange_strategy.h"
#include "parallel/expert_placement.h"

namespace moed {

// Sizes fixed at start; a step stays within them.
struct DispatcherLimits {
  int64_t max_rows = 0;         // rows of one step on one rank, >= 1
  int64_t max_gather_rows = 0;  // padded rows a rank of a gather step; <= max_rows
  int64_t hidden = 0;
  int64_t top_k = 0;
  int max_in_flight = 1;  // handles alive at once
};

// How one step exchanges; equal on all ranks.
struct ExchangePlan {
  ExchangeStrategy strategy = ExchangeStrategy::kExact;
  int64_t padded_rows = 0;  // gather: rows every rank sends, >= rows of any rank; exact: unused
};

struct DispatchBuffers;  // one in-flight exchange's memory

// All state of one exchange between Dispatch and Combine. Move-only; Combine consumes it, and a
// handle that is dropped gives its memory back. It must not outlive its dispatcher.
class DispatchHandle {
 public:
  DispatchHandle(DispatchHandle&&) noexcept;
  DispatchHandle& operator=(DispatchHandle&&) noexcept;
  ~DispatchHandle();

  ConstTensorView rows() const;            // [num_arrived_rows, hidden] act
  ConstTensorView expert_offsets() const;  // [num_local_experts + 1] int32
  ConstTensorView row_index() const;       // int32, see GroupByExpertArgs
  ConstTensorView out_index() const;       // int32
  TensorView expert_output() const;        // [num_out_rows, hidden] act; the experts write here

 private:
  friend class TokenDispatcher;
  explicit DispatchHandle(DispatchBuffers* buffers);
  DispatchBuffers* buffers_ = nullptr;
};

// One per rank, used by the rank's thread. Both strategies give the same bits: contributions are
// weighed and added at home in top-k order. A group of one rank exchanges nothing: its rows are
// grouped where they lie, whatever the strategy.
class TokenDispatcher {
 public:
  // Device memory that Create takes on one rank (MemoryKind::kExchange), sized for the worst step:
  // all rows of all ranks arrive on this one. INVALID_ARGUMENT for limits that are not positive or
  // whose row indices would not fit in an int32.
  static absl::StatusOr<int64_t> ExchangeBytes(const ExpertPlacement& placement,
                                               const DispatcherLimits& limits, DType activation);

  // All memory is allocated here. `backend`, `communicator` and `placement` must outlive it.
  // Errors: those of ExchangeBytes and of Backend::Allocate.
  static absl::StatusOr<std::unique_ptr<TokenDispatcher>> Create(Backend& backend,
                                                                 Communicator& communicator,
                                                                 const ExpertPlacement& placement,
                                                                 const DispatcherLimits& limits);
  ~TokenDispatcher();

  // rows [num_tokens, hidden] act, topk_ids [num_tokens, top_k] int32 (negative: no pair).
  // num_tokens may be 0: the rank still joins every collective. `rows` and `topk_ids` must stay
  // valid until Combine. UNAVAILABLE when the group failed. The exact strategy waits on the host
  // for the counts of the rows; the gather strategy never does.
  absl::StatusOr<DispatchHandle> Dispatch(Stream& stream, uint64_t step, int layer,
                                          const ExchangePlan& plan, ConstTensorView rows,
                                          ConstTensorView topk_ids);

  // residual [num_tokens, hidden] float32 += weighted contributions (CombineArgs).
  // topk_weights [num_tokens, top_k] float32.
  absl::Status Combine(Stream& stream, DispatchHandle handle, ConstTensorView topk_weights,
                       TensorView residual);

 private:
  TokenDispatcher(Backend& backend, Communicator& communicator, const ExpertPlacement& placement,
                  const DispatcherLimits& limits);
  absl::Status AllocateBuffers();
  absl::Status UploadTables();
  // Static slots without an exchange, for a group of one rank.
  void DispatchLocal(Stream& stream, DispatchBuffers& buffers);
  absl::Status DispatchExact(Stream& stream, DispatchBuffers& buffers);
  absl::Status DispatchGather(Stream& stream, DispatchBuffers& buffers, int64_t padded_rows);
  // Plans what to send and agrees with all ranks on the counts.
  absl::Status PlanExact(Stream& stream, DispatchBuffers& buffers);
  // The contributions to this rank's rows, where contribution_index expects them.
  absl::StatusOr<ConstTensorView> BringHomeExact(Stream& stream, DispatchBuffers& buffers);
  absl::StatusOr<ConstTensorView> BringHomeGather(Stream& stream, DispatchBuffers& buffers);
  // Fills expert_offsets, row_index and out_index from the arrived rows' choices.
  void GroupArrivedRows(Stream& stream, DispatchBuffers& buffers, int64_t slots_per_row);
  // Fills contribution_index and sizes expert_output for static slots.
  void IndexSlots(Stream& stream, DispatchBuffers& buffers, int64_t padded_rows);
  ConstTensorView RankOfExpert(int layer) const;  // [num_experts] int32

  Backend& backend_;
  Communicator& communicator_;
  const ExpertPlacement& placement_;
  const DispatcherLimits limits_;
  const int64_t slots_per_row_;  // min(top_k, max_local_experts): equal on all ranks and layers
  std::vector<std::unique_ptr<DispatchBuffers>> buffers_;  // [max_in_flight]
  Buffer rank_of_expert_;                                  // [num_layers, num_experts] int32
  Buffer local_expert_of_;                                 // [num_layers, num_experts] int32
  // Constants of which steps take views; the first two [max_gather_rows or more] int32.
  Buffer zeros_;
  Buffer first_rows_;   // 0, 1, 2, ...
  Buffer padding_ids_;  // [1, top_k] int32: all -1
};

}  // namespace moed
