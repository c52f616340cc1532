#include "runtime/schedule/exchange_policy.h"

#include <algorithm>

namespace moed {

ExchangeDecision ChooseExchange(const ExchangePolicy& policy, absl::Span<const int32_t> num_rows) {
  int32_t padded_rows = 0;
  for (const int32_t rows : num_rows) padded_rows = std::max(padded_rows, rows);
  const ExchangeDecision gather = {ExchangeStrategy::kGather, padded_rows};
  switch (policy.mode) {
    case ExchangeMode::kExact:
      return {};
    case ExchangeMode::kGather:
      return gather;
    case ExchangeMode::kAuto:
      break;
  }
  const int64_t group_ranks =
      std::max<int64_t>(policy.group_ranks, static_cast<int64_t>(num_rows.size()));
  const int64_t group_rows = padded_rows * group_ranks;
  const bool is_small =
      padded_rows <= policy.max_gather_rows && group_rows <= policy.max_gather_group_rows;
  return is_small ? gather : ExchangeDecision{};
}

int32_t TokenBudgetLimit(const ExchangePolicy& policy, int32_t max_rows) {
  if (policy.mode != ExchangeMode::kGather) return max_rows;
  return std::min(max_rows, policy.max_gather_rows);
}

}  // namespace moed
