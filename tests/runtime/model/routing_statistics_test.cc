#include "runtime/model/routing_statistics.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace moed {
namespace {

TEST(RoutingStatisticsTest, EvenLoadIsEven) {
  const RoutingSummary summary = SummarizeRouting(std::vector<int64_t>(8, 250));
  EXPECT_EQ(summary.total, 2000);
  EXPECT_DOUBLE_EQ(summary.shares[3], 0.125);
  EXPECT_DOUBLE_EQ(summary.max_over_mean, 1);
  EXPECT_NEAR(summary.gini, 0, 1e-12);
  EXPECT_NEAR(summary.normalized_entropy, 1, 1e-12);
  EXPECT_EQ(summary.num_dead_experts, 0);
}

TEST(RoutingStatisticsTest, AllOnOneExpertIsTheExtreme) {
  const RoutingSummary summary = SummarizeRouting({0, 0, 12, 0});
  EXPECT_DOUBLE_EQ(summary.max_over_mean, 4);
  EXPECT_DOUBLE_EQ(summary.gini, 0.75);  // (n - 1) / n
  EXPECT_NEAR(summary.normalized_entropy, 0, 1e-12);
  EXPECT_EQ(summary.num_dead_experts, 3);
}

TEST(RoutingStatisticsTest, UnevenLoadByHand) {
  // Shares 1/2, 1/4, 1/8, 1/8: entropy 1.75 of 2 bits. Half the mean of |xi - xj| over the mean:
  // the six pairs differ by 1/4, 3/8, 3/8, 1/8, 1/8, 0, so 2 * 1.25 / (2 * 16 * 1/4).
  const RoutingSummary summary = SummarizeRouting({4, 2, 1, 1});
  EXPECT_DOUBLE_EQ(summary.max_over_mean, 2);
  EXPECT_NEAR(summary.gini, 0.3125, 1e-12);
  EXPECT_NEAR(summary.normalized_entropy, 0.875, 1e-12);
  EXPECT_EQ(summary.num_dead_experts, 0);
}

TEST(RoutingStatisticsTest, WithoutTokensNothingIsUneven) {
  const RoutingSummary summary = SummarizeRouting({0, 0, 0});
  EXPECT_EQ(summary.total, 0);
  EXPECT_EQ(summary.shares, std::vector<double>(3, 0));
  EXPECT_DOUBLE_EQ(summary.max_over_mean, 1);
  EXPECT_DOUBLE_EQ(summary.gini, 0);
  EXPECT_DOUBLE_EQ(summary.normalized_entropy, 1);
  EXPECT_EQ(summary.num_dead_experts, 0);
}

TEST(RoutingStatisticsTest, OneExpertIsEven) {
  const RoutingSummary summary = SummarizeRouting({9});
  EXPECT_DOUBLE_EQ(summary.max_over_mean, 1);
  EXPECT_DOUBLE_EQ(summary.gini, 0);
  EXPECT_DOUBLE_EQ(summary.normalized_entropy, 1);
}

TEST(RoutingStatisticsTest, LayersAreSummarizedOneByOne) {
  const std::vector<int64_t> counts = {1, 1, 0, 6};
  const std::vector<RoutingSummary> layers = SummarizeRoutingByLayer(counts, 2, 2);
  ASSERT_EQ(layers.size(), 2U);
  EXPECT_EQ(layers[0].total, 2);
  EXPECT_EQ(layers[1].total, 6);
  EXPECT_EQ(layers[1].num_dead_experts, 1);
}

}  // namespace
}  // namespace moed
