#include "parallel/dispatch_buffers.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/dtype.h"
#include "kernels/core/status.h"
#include "parallel/token_dispatcher.h"

namespace moed {
namespace {

constexpr int64_t kMaxIndex = std::numeric_limits<int32_t>::max();
constexpr int64_t kInt32Bytes = 4;

absl::Status CheckLimits(const ExpertPlacement& placement, const DispatcherLimits& limits) {
  if (limits.max_rows < 1 || limits.hidden < 1 || limits.max_in_flight < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("dispatcher limits of ", limits.max_rows, " rows, hidden ", limits.hidden,
                     ", ", limits.max_in_flight, " in flight: each must be at least 1"));
  }
  if (limits.top_k < 1 || limits.top_k > placement.num_experts()) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_k ", limits.top_k, " of ", placement.num_experts(), " experts"));
  }
  if (limits.max_gather_rows < 0 || limits.max_gather_rows > limits.max_rows) {
    return absl::InvalidArgumentError(absl::StrCat("max_gather_rows ", limits.max_gather_rows,
                                                   " lies outside 0 to max_rows ",
                                                   limits.max_rows));
  }
  // The largest index of all is a pair's place on the rank where all rows of the group arrive.
  const std::optional<int64_t> arrived = CheckedMul(limits.max_rows, placement.num_ranks());
  const std::optional<int64_t> pairs =
      arrived.has_value() ? CheckedMul(*arrived, limits.top_k) : std::nullopt;
  if (!pairs.has_value() || *pairs > kMaxIndex || limits.hidden > kMaxIndex) {
    return absl::InvalidArgumentError(absl::StrCat(
        limits.max_rows, " rows a rank on ", placement.num_ranks(), " ranks with top_k ",
        limits.top_k, " and hidden ", limits.hidden, ": row indices must fit in 32 bits"));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t SlotsPerRow(const ExpertPlacement& placement, const DispatcherLimits& limits) {
  return std::min<int64_t>(limits.top_k, placement.max_local_experts());
}

int64_t ConstantTableLength(const ExpertPlacement& placement, const DispatcherLimits& limits) {
  return std::max<int64_t>(limits.max_gather_rows, placement.max_local_experts() + 1);
}

absl::StatusOr<std::vector<DispatchBufferSize>> DispatchBufferSizes(
    const ExpertPlacement& placement, const DispatcherLimits& limits, DType activation) {
  MOED_RETURN_IF_ERROR(CheckLimits(placement, limits));
  const int64_t num_ranks = placement.num_ranks();
  const int64_t row_bytes = limits.hidden * DTypeBytes(activation);
  const int64_t ids_bytes = limits.top_k * kInt32Bytes;
  const int64_t slots_per_row = SlotsPerRow(placement, limits);
  const int64_t num_arrived = num_ranks * limits.max_rows;
  const int64_t num_results = num_arrived * slots_per_row;

  using B = DispatchBuffers;
  std::vector<DispatchBufferSize> sizes = {
      {&B::contribution_index, limits.max_rows * ids_bytes},
      {&B::expert_offsets, (placement.max_local_experts() + 1) * kInt32Bytes},
      {&B::row_index, num_results * kInt32Bytes},
      {&B::out_index, num_results * kInt32Bytes},
      {&B::expert_output, num_results * row_bytes},
  };
  if (num_ranks > 1) {
    const int64_t num_sent = limits.max_rows * std::min<int64_t>(limits.top_k, num_ranks);
    const int64_t num_contributions = std::max(limits.max_rows * limits.top_k,
                                               num_ranks * limits.max_gather_rows * slots_per_row);
    const std::vector<DispatchBufferSize> exchange = {
        {&B::send_row_index, num_sent * kInt32Bytes},
        {&B::counts, 2 * num_ranks * kInt32Bytes},
        {&B::send_rows, num_sent * row_bytes},
        {&B::send_ids, num_sent * ids_bytes},
        {&B::contributions, num_contributions * row_bytes},
        {&B::arrived_rows, num_arrived * row_bytes},
        {&B::arrived_ids, num_arrived * ids_bytes},
    };
    sizes.insert(sizes.end(), exchange.begin(), exchange.end());
  }
  return sizes;
}

absl::StatusOr<int64_t> TokenDispatcher::ExchangeBytes(const ExpertPlacement& placement,
                                                       const DispatcherLimits& limits,
                                                       DType activation) {
  MOED_ASSIGN_OR_RETURN(const std::vector<DispatchBufferSize> sizes,
                        DispatchBufferSizes(placement, limits, activation));
  int64_t exchange_bytes = 0;
  for (const DispatchBufferSize& size : sizes) exchange_bytes += size.bytes;
  const int64_t placement_bytes =
      2 * int64_t{placement.num_layers()} * placement.num_experts() * kInt32Bytes;
  const int64_t constant_bytes =
      (2 * ConstantTableLength(placement, limits) + limits.top_k) * kInt32Bytes;
  return exchange_bytes * limits.max_in_flight + placement_bytes + constant_bytes;
}

}  // namespace moed
