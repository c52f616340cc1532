// Ratios of repetition and what to expect of them at random.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/model/routing_statistics.h"

namespace moed {
namespace {

// One token's choices, drawn without preference.
std::vector<int> DrawChoices(int num_experts, int num_choices, std::mt19937_64& random) {
  std::vector<int> experts(num_experts);
  std::iota(experts.begin(), experts.end(), 0);
  std::shuffle(experts.begin(), experts.end(), random);
  experts.resize(num_choices);
  return experts;
}

// The statistic of a router that draws at random, counted token by token with sets.
RepetitionSummary Simulate(int num_experts, int num_choices, int num_tokens, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int> previous = DrawChoices(num_experts, num_choices, random);
  int64_t same_first = 0;
  int64_t any_shared = 0;
  for (int token = 1; token < num_tokens; ++token) {
    const std::vector<int> choices = DrawChoices(num_experts, num_choices, random);
    same_first += choices[0] == previous[0] ? 1 : 0;
    const std::set<int> before(previous.begin(), previous.begin() + std::min(2, num_choices));
    any_shared += std::any_of(choices.begin(), choices.begin() + std::min(2, num_choices),
                              [&](int expert) { return before.count(expert) > 0; })
                      ? 1
                      : 0;
    previous = choices;
  }
  return SummarizeRepetition(num_tokens - 1, same_first, any_shared);
}

TEST(RoutingRepetitionTest, RandomRoutingOfMixtralIsTheOneInTheMixtralPaper) {
  const RandomRepetition random = RandomRepetitionOf(8, 2);
  EXPECT_DOUBLE_EQ(random.first, 0.125);
  EXPECT_NEAR(random.any, 1 - 6.0 / 8 * 5 / 7, 1e-15);
  EXPECT_NEAR(random.any, 0.464, 0.0005);
}

TEST(RoutingRepetitionTest, SimulatedRandomRoutingMeetsTheBaseline) {
  for (const auto& [num_experts, num_choices] :
       {std::pair{8, 2}, {8, 1}, {64, 8}, {4, 2}, {5, 3}, {3, 2}, {2, 2}, {2, 1}, {1, 1}}) {
    constexpr int kTokens = 60000;
    const uint64_t seed = 1000 + num_experts * 10 + num_choices;
    const RepetitionSummary seen = Simulate(num_experts, num_choices, kTokens, seed);
    const RandomRepetition expected = RandomRepetitionOf(num_experts, num_choices);
    constexpr double kFourSigma = 4 * 0.5 / 244;  // sqrt(60000) is 244.9
    EXPECT_NEAR(seen.first, expected.first, kFourSigma)
        << num_choices << " of " << num_experts << ", seed " << seed;
    EXPECT_NEAR(seen.any, expected.any, kFourSigma)
        << num_choices << " of " << num_experts << ", seed " << seed;
  }
}

TEST(RoutingRepetitionTest, WithOneChoiceAnyIsTheFirst) {
  const RandomRepetition random = RandomRepetitionOf(16, 1);
  EXPECT_DOUBLE_EQ(random.any, random.first);
}

TEST(RoutingRepetitionTest, WhereEveryPairSharesAnExpertTheBaselineIsOne) {
  EXPECT_DOUBLE_EQ(RandomRepetitionOf(3, 2).any, 1);  // two of three always meet two of three
  EXPECT_DOUBLE_EQ(RandomRepetitionOf(2, 2).any, 1);
  EXPECT_DOUBLE_EQ(RandomRepetitionOf(1, 1).any, 1);
  EXPECT_DOUBLE_EQ(RandomRepetitionOf(1, 1).first, 1);
}

TEST(RoutingRepetitionTest, RatiosAreOfTheRowsThatHaveAPredecessor) {
  const RepetitionSummary summary = SummarizeRepetition(8, 2, 6);
  EXPECT_EQ(summary.num_rows, 8);
  EXPECT_DOUBLE_EQ(summary.first, 0.25);
  EXPECT_DOUBLE_EQ(summary.any, 0.75);
}

TEST(RoutingRepetitionTest, WithoutRowsNothingRepeats) {
  const RepetitionSummary summary = SummarizeRepetition(0, 0, 0);
  EXPECT_EQ(summary.num_rows, 0);
  EXPECT_DOUBLE_EQ(summary.first, 0);
  EXPECT_DOUBLE_EQ(summary.any, 0);
}

}  // namespace
}  // namespace moed
