// How evenly a layer's router spreads tokens over its experts. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace moed {

// Of one layer. Where nothing was routed the layer counts as even: no evidence is no alarm.
struct RoutingSummary {
  int64_t total = 0;              // choices counted: rows times top_k
  std::vector<double> shares;     // [num_experts], they sum to 1; all 0 where total is 0
  double max_over_mean = 1;       // load of the busiest expert over the mean; 1 is even, with
                                  // top_k of num_experts at most num_experts / top_k
  double gini = 0;                // 0: even; (num_experts - 1) / num_experts: all on one
                                  // (Gini 1912, by half the relative mean difference)
  double normalized_entropy = 1;  // Shannon entropy of the shares / ln(num_experts); 1: even
  int num_dead_experts = 0;       // never chosen
};

// counts [num_experts], none negative.
RoutingSummary SummarizeRouting(absl::Span<const int64_t> counts);

// counts [num_layers * num_experts], one summary a layer.
std::vector<RoutingSummary> SummarizeRoutingByLayer(absl::Span<const int64_t> counts,
                                                    int num_layers, int num_experts);

}  // namespace moed
