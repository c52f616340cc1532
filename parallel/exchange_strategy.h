// How a step's rows reach their experts.
#pragma once

#include <cstdint>

namespace moed {

// Decided once per step for all ranks by the engine; docs/expert_parallelism.md compares them.
enum class ExchangeStrategy : uint8_t {
  kExact,   // counts first, then an all-to-all with per-peer counts: least bytes, a host wait
  kGather,  // all-gather of rows, static slots back: static shapes, no host wait
};

constexpr const char* ExchangeStrategyName(ExchangeStrategy strategy) {
  return strategy == ExchangeStrategy::kExact ? "exact" : "gather";
}

}  // namespace moed
