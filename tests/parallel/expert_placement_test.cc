#include "parallel/expert_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ExpertPlacement, EightExpertsOnEightRanksAreOneEachInEveryLayer) {
  const ExpertPlacement placement = ExpertPlacement::Even(32, 8, 8);
  EXPECT_EQ(placement.max_local_experts(), 1);
  for (int rank = 0; rank < 8; ++rank) {
    for (int layer = 0; layer < 32; ++layer) {
      EXPECT_THAT(placement.ExpertsOn(rank, layer), ElementsAre(rank));
    }
  }
}

TEST(ExpertPlacement, SixExpertsOnFourRanksMoveTheExtraOnesFromLayerToLayer) {
  const ExpertPlacement placement = ExpertPlacement::Even(2, 6, 4);
  EXPECT_THAT(placement.ExpertsOn(0, 0), ElementsAre(0, 4));
  EXPECT_THAT(placement.ExpertsOn(1, 0), ElementsAre(1, 5));
  EXPECT_THAT(placement.ExpertsOn(2, 0), ElementsAre(2));
  EXPECT_THAT(placement.ExpertsOn(3, 0), ElementsAre(3));
  EXPECT_THAT(placement.ExpertsOn(0, 1), ElementsAre(2));
  EXPECT_THAT(placement.ExpertsOn(1, 1), ElementsAre(3));
  EXPECT_THAT(placement.ExpertsOn(2, 1), ElementsAre(0, 4));
  EXPECT_THAT(placement.ExpertsOn(3, 1), ElementsAre(1, 5));
}

TEST(ExpertPlacement, MoreRanksThanExpertsLeavesSomeRanksWithoutExperts) {
  const ExpertPlacement placement = ExpertPlacement::Even(1, 8, 11);
  EXPECT_EQ(placement.max_local_experts(), 1);
  EXPECT_THAT(placement.ExpertsOn(7, 0), ElementsAre(7));
  EXPECT_THAT(placement.ExpertsOn(8, 0), IsEmpty());
  EXPECT_THAT(placement.LocalExpertOf(10, 0), ElementsAre(-1, -1, -1, -1, -1, -1, -1, -1));
}

TEST(ExpertPlacement, LocalIdsCountTheLayersExpertsOfTheRankInAscendingOrder) {
  const ExpertPlacement placement = ExpertPlacement::Even(2, 6, 4);
  EXPECT_THAT(placement.LocalExpertOf(2, 1), ElementsAre(0, -1, -1, -1, 1, -1));
  EXPECT_THAT(placement.RankOfExpert(1), ElementsAre(2, 3, 0, 1, 2, 3));
}

void ExpectEven(int num_layers, int num_experts, int num_ranks) {
  SCOPED_TRACE(::testing::Message() << num_layers << " layers, " << num_experts << " experts, "
                                    << num_ranks << " ranks");
  const ExpertPlacement placement = ExpertPlacement::Even(num_layers, num_experts, num_ranks);
  std::vector<int64_t> experts_of_rank(static_cast<size_t>(num_ranks), 0);
  int most_in_a_layer = 0;
  for (int layer = 0; layer < num_layers; ++layer) {
    int fewest = num_experts;
    int most = 0;
    std::vector<int> times_held(static_cast<size_t>(num_experts), 0);
    for (int rank = 0; rank < num_ranks; ++rank) {
      const auto experts = placement.ExpertsOn(rank, layer);
      EXPECT_TRUE(std::is_sorted(experts.begin(), experts.end()));
      const std::vector<int32_t> local_ids = placement.LocalExpertOf(rank, layer);
      for (size_t i = 0; i < experts.size(); ++i) {
        ++times_held[static_cast<size_t>(experts[i])];
        EXPECT_EQ(placement.RankOf(layer, experts[i]), rank);
        EXPECT_EQ(local_ids[static_cast<size_t>(experts[i])], static_cast<int32_t>(i));
      }
      fewest = std::min(fewest, static_cast<int>(experts.size()));
      most = std::max(most, static_cast<int>(experts.size()));
      experts_of_rank[static_cast<size_t>(rank)] += static_cast<int64_t>(experts.size());
    }
    EXPECT_THAT(times_held, ::testing::Each(1)) << "layer " << layer;
    EXPECT_LE(most - fewest, 1) << "layer " << layer;
    most_in_a_layer = std::max(most_in_a_layer, most);
  }
  EXPECT_EQ(placement.max_local_experts(), most_in_a_layer);
  const auto [fewest, most] = std::minmax_element(experts_of_rank.begin(), experts_of_rank.end());
  EXPECT_LE(*most - *fewest, 1) << "over all layers";
}

TEST(ExpertPlacement, HoldsEveryExpertOnceAndDiffersByAtMostOneBetweenRanks) {
  for (const int num_layers : {1, 2, 3, 32}) {
    for (const int num_experts : {1, 2, 6, 8, 64}) {
      for (const int num_ranks : {1, 2, 3, 4, 5, 7, 8, 11, 16}) {
        ExpectEven(num_layers, num_experts, num_ranks);
      }
    }
  }
}

}  // namespace
}  // namespace moed
