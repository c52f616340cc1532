// Which exchange strategy a step takes: decided once, for all ranks.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "parallel/exchange_strategy.h"

namespace moed {

enum class ExchangeMode : uint8_t {
  kAuto,
  kExact,   // always
  kGather,  // always; a rank's budget is then at most max_gather_rows
};

struct ExchangePolicy {
  ExchangeMode mode = ExchangeMode::kAuto;
  int32_t max_gather_rows = 0;  // of one rank, padding included; 0: the ranks cannot gather
  // Auto: rows of the group, padding included, up to which gathering costs within 4 % of a perfect
  // all-to-all.
  int32_t max_gather_group_rows = 184;
  // Ranks of the group where not all of them are scheduled (an emulated rank stands for its group).
  int32_t group_ranks = 0;
};

struct ExchangeDecision {
  ExchangeStrategy strategy = ExchangeStrategy::kExact;
  int32_t padded_rows = 0;  // RankBatch::padded_rows; 0 with exact
};

// num_rows [num_ranks]: each rank's rows of the step, at most TokenBudgetLimit of them.
ExchangeDecision ChooseExchange(const ExchangePolicy& policy, absl::Span<const int32_t> num_rows);

// The most rows that the policy lets a rank have in a step, of `max_rows` that it could compute.
int32_t TokenBudgetLimit(const ExchangePolicy& policy, int32_t max_rows);

}  // namespace moed
