// How many pairs an expert serves where the operator has set a capacity factor.
#pragma once

#include <cmath>
#include <cstdint>

namespace moed {

// ceil(factor * num_pairs / num_experts): `factor` times an even share of a group's pairs (Lepikhin
// et al. 2021, "GShard", section 2.2). The group is one rank's rows in one step.
inline int64_t ExpertCapacity(double factor, int64_t num_pairs, int64_t num_experts) {
  return static_cast<int64_t>(
      std::ceil(factor * static_cast<double>(num_pairs) / static_cast<double>(num_experts)));
}

}  // namespace moed
