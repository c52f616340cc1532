#include "runtime/model/routing_statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "kernels/core/check.h"

namespace moed {

RoutingSummary SummarizeRouting(absl::Span<const int64_t> counts) {
  const size_t num_experts = counts.size();
  RoutingSummary summary;
  summary.shares.resize(num_experts, 0.0);
  summary.total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (summary.total == 0) return summary;

  const double total = static_cast<double>(summary.total);
  double entropy = 0;
  for (size_t expert = 0; expert < num_experts; ++expert) {
    MOED_CHECK(counts[expert] >= 0, "an expert's count is negative");
    const double share = static_cast<double>(counts[expert]) / total;
    summary.shares[expert] = share;
    if (counts[expert] == 0) {
      ++summary.num_dead_experts;
    } else {
      entropy -= share * std::log(share);
    }
  }
  std::vector<double> ascending = summary.shares;
  std::sort(ascending.begin(), ascending.end());
  const double n = static_cast<double>(num_experts);
  double weighted = 0;
  for (size_t i = 0; i < num_experts; ++i) {
    weighted += (2.0 * static_cast<double>(i + 1) - n - 1.0) * ascending[i];
  }
  summary.gini = weighted / n;
  summary.max_over_mean = ascending.back() * n;
  if (num_experts > 1) summary.normalized_entropy = entropy / std::log(n);
  return summary;
}

std::vector<RoutingSummary> SummarizeRoutingByLayer(absl::Span<const int64_t> counts,
                                                    int num_layers, int num_experts) {
  MOED_CHECK(static_cast<int64_t>(counts.size()) == int64_t{num_layers} * num_experts,
             "the counts are those of another model");
  std::vector<RoutingSummary> summaries;
  summaries.reserve(static_cast<size_t>(num_layers));
  for (int layer = 0; layer < num_layers; ++layer) {
    summaries.push_back(SummarizeRouting(
        counts.subspan(static_cast<size_t>(layer) * static_cast<size_t>(num_experts),
                       static_cast<size_t>(num_experts))));
  }
  return summaries;
}

RepetitionSummary SummarizeRepetition(int64_t num_rows, int64_t same_first, int64_t any_shared) {
  RepetitionSummary summary;
  summary.num_rows = num_rows;
  if (num_rows == 0) return summary;
  const double rows = static_cast<double>(num_rows);
  summary.first = static_cast<double>(same_first) / rows;
  summary.any = static_cast<double>(any_shared) / rows;
  return summary;
}

RandomRepetition RandomRepetitionOf(int num_experts, int experts_per_token) {
  MOED_CHECK(experts_per_token >= 1 && experts_per_token <= num_experts,
             "a token chooses among the layer's experts");
  const double n = num_experts;
  RandomRepetition random;
  random.first = 1 / n;
  // Neither of the second token's two is among the first one's: (n - 2) / n * (n - 3) / (n - 1).
  random.any =
      experts_per_token == 1 ? random.first : 1 - (n - 2) / n * std::max(0.0, n - 3) / (n - 1);
  return random;
}

}  // namespace moed
