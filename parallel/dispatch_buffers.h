// The memory of one exchange in flight, and what is known of it. Internal to TokenDispatcher.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/core/buffer.h"
#include "kernels/core/dtype.h"
#include "kernels/core/tensor_view.h"
#include "parallel/communicator.h"
#include "parallel/exchange_strategy.h"
#include "parallel/expert_placement.h"

namespace moed {

struct DispatcherLimits;

struct DispatchBuffers {
  // Home side. A group of one rank has only contribution_index of these.
  Buffer send_row_index;      // [max_rows * min(top_k, num_ranks)] int32
  Buffer counts;              // [2, num_ranks] int32: rows to, and replies from, each rank
  Buffer send_rows;           // [max_rows * min(top_k, num_ranks), hidden] act
  Buffer send_ids;            // [max_rows * min(top_k, num_ranks), top_k] int32
  Buffer contribution_index;  // [max_rows, top_k] int32
  Buffer contributions;       // [max(max_rows * top_k, all static slots), hidden] act

  // The experts' side, where all rows of all ranks may arrive.
  Buffer arrived_rows;    // [num_ranks * max_rows, hidden] act; not in a group of one
  Buffer arrived_ids;     // [num_ranks * max_rows, top_k] int32; not in a group of one
  Buffer expert_offsets;  // [max_local_experts + 1] int32
  Buffer row_index;       // [num_ranks * max_rows * slots_per_row] int32
  Buffer out_index;       // [num_ranks * max_rows * slots_per_row] int32
  Buffer expert_output;   // [num_ranks * max_rows * slots_per_row, hidden] act

  // Counts on the host, exact strategy only; each [num_ranks] but for the pairs.
  std::vector<int32_t> planned_counts;  // [2 * num_ranks], a copy of `counts`
  std::vector<int64_t> own_counts;      // [num_ranks, 2]: rows to, and replies from, each rank
  std::vector<int64_t> peer_counts;     // [num_ranks, 2]: the same as each rank told this one
  std::vector<int64_t> rows_to;
  std::vector<int64_t> rows_from;
  std::vector<int64_t> replies_to;
  std::vector<int64_t> replies_from;

  // The exchange that holds this memory now.
  bool in_use = false;
  uint64_t step = 0;
  int layer = 0;
  ExchangeStrategy strategy = ExchangeStrategy::kExact;
  ConstTensorView home_rows;                // [num_tokens, hidden] act, the caller's
  ConstTensorView home_ids;                 // [num_tokens, top_k] int32, the caller's
  ConstTensorView arrived_rows_view;        // [num_arrived_rows, hidden] act
  ConstTensorView arrived_ids_view;         // [num_arrived_rows, top_k] int32
  ConstTensorView expert_offsets_view;      // [num_local_experts + 1] int32
  ConstTensorView row_index_view;           // [num_pairs or more] int32
  ConstTensorView out_index_view;           // [num_pairs or more] int32
  TensorView expert_output_view;            // [num_out_rows, hidden] act
  ConstTensorView contribution_index_view;  // [num_tokens, top_k] int32

  CollectiveTag Tag(const char* operation) const { return {step, layer, operation}; }
};

// A buffer of the above and its size for the worst step.
struct DispatchBufferSize {
  Buffer DispatchBuffers::*buffer = nullptr;
  int64_t bytes = 0;
};

// INVALID_ARGUMENT as TokenDispatcher::ExchangeBytes says.
absl::StatusOr<std::vector<DispatchBufferSize>> DispatchBufferSizes(
    const ExpertPlacement& placement, const DispatcherLimits& limits, DType activation);

// min(top_k, max_local_experts): the most contributions that one rank makes for one row.
int64_t SlotsPerRow(const ExpertPlacement& placement, const DispatcherLimits& limits);

// Length of the dispatcher's constant index tables.
int64_t ConstantTableLength(const ExpertPlacement& placement, const DispatcherLimits& limits);

}  // namespace moed
