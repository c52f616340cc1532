// How evenly a layer's router spreads tokens over its experts, and how often it repeats itself.
// Pure.
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

// How often a token goes to the expert of the token before it (Jiang et al. 2024, "Mixtral of
// Experts", section 5, table 5). Of one layer.
struct RepetitionSummary {
  int64_t num_rows = 0;  // tokens with a predecessor
  double first = 0;      // share of them with the predecessor's first choice; 0 without rows
  double any = 0;        // share that has a first or second choice in common with it, in whichever
                         // order; with one choice a token the same as `first`
};

// num_rows, and how many of them repeat; each at most num_rows.
RepetitionSummary SummarizeRepetition(int64_t num_rows, int64_t same_first, int64_t any_shared);

// What to expect of a router that draws at random: 1 / E, and 1 - C(E - c, c) / C(E, c) with c =
// min(2, experts_per_token). For 8 experts, 2 per token: 12.5 % and 46.4 %.
struct RandomRepetition {
  double first = 1;
  double any = 1;
};

// experts_per_token in [1, num_experts].
RandomRepetition RandomRepetitionOf(int num_experts, int experts_per_token);

}  // namespace moed
