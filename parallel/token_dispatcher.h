// Sends rows to the ranks of their experts and brings the contributions home.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "parallel/communicator.h"
#include "parallel/exchange_strategy.h"
#include "parallel/expert_placement.h"

namespace moed {

// Sizes fixed at start; a step stays within them.
struct DispatcherLimits {
  int64_t max_rows = 0;         // rows of one step on one rank
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
// handle that is dropped gives its memory back.
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
// weighed and added at home in top-k order.
class TokenDispatcher {
 public:
  // All memory is allocated here. `backend`, `communicator` and `placement` must outlive it.
  static absl::StatusOr<std::unique_ptr<TokenDispatcher>> Create(Backend& backend,
                                                                 Communicator& communicator,
                                                                 const ExpertPlacement& placement,
                                                                 const DispatcherLimits& limits);
  ~TokenDispatcher();

  // rows [num_tokens, hidden] act, topk_ids [num_tokens, top_k] int32 (negative: no pair).
  // num_tokens may be 0: the rank still joins every collective. `rows` and `topk_ids` must stay
  // valid until Combine. UNAVAILABLE when the group failed.
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
  absl::Status DispatchExact(Stream& stream, DispatchBuffers& buffers);
  absl::Status DispatchGather(Stream& stream, DispatchBuffers& buffers);
  absl::Status CombineExact(Stream& stream, DispatchBuffers& buffers);
  absl::Status CombineGather(Stream& stream, DispatchBuffers& buffers);

  Backend& backend_;
  Communicator& communicator_;
  const ExpertPlacement& placement_;
  const DispatcherLimits limits_;
  std::vector<std::unique_ptr<DispatchBuffers>> buffers_;  // [max_in_flight]
  Buffer rank_of_expert_;                                  // [num_layers, num_experts] int32
  Buffer local_expert_of_;                                 // [num_layers, num_experts] int32
};

}  // namespace moed
