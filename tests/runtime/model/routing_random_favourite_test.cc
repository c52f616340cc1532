#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/model/random_favourite.h"

namespace moed {
namespace {

double Simulate(int num_experts, int num_rows, int num_trials, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<> expert(0, num_experts - 1);
  int64_t most = 0;
  for (int trial = 0; trial < num_trials; ++trial) {
    std::vector<int64_t> counts(num_experts, 0);
    for (int row = 0; row < num_rows; ++row) ++counts[expert(random)];
    most += *std::max_element(counts.begin(), counts.end());
  }
  return static_cast<double>(most) / num_trials / num_rows;
}

TEST(RandomFavouriteTest, ByHand) {
  EXPECT_DOUBLE_EQ(RandomFavourite(8).Share(1), 1);
  // Two rows agree once in eight.
  EXPECT_NEAR(RandomFavourite(8).Share(2), (2.0 / 8 + 7.0 / 8) / 2, 1e-12);
  // Three rows on two experts: 3 and 0 with 1/4, else 2 and 1.
  EXPECT_NEAR(RandomFavourite(2).Share(3), (3 * 0.25 + 2 * 0.75) / 3, 1e-12);
}

TEST(RandomFavouriteTest, OneExpertGetsEverything) {
  const RandomFavourite favourite(1);
  for (const int64_t rows : {1, 2, 64, 65, 100000}) {
    EXPECT_NEAR(favourite.Share(rows), 1, 1e-12) << rows << " rows";
  }
}

TEST(RandomFavouriteTest, SimulatedDrawsMeetIt) {
  for (const int num_experts : {2, 8, 64}) {
    const RandomFavourite favourite(num_experts);
    for (const int rows : {2, 5, 16, 64, 65, 90, 200, 1000, 5000}) {
      const int trials = 2'000'000 / rows / 4 + 400;
      const uint64_t seed = num_experts * 10000 + rows;
      const double simulated = Simulate(num_experts, rows, trials, seed);
      // Four times more than the standard deviation of an expert's share, over all trials.
      const double noise = 4 / std::sqrt(static_cast<double>(rows) * num_experts * trials);
      EXPECT_NEAR(favourite.Share(rows), simulated, 0.01 * simulated + noise)
          << num_experts << " experts, " << rows << " rows, seed " << seed;
    }
  }
}

TEST(RandomFavouriteTest, ManyRowsComeCloseToTheMeanShare) {
  const RandomFavourite favourite(8);
  EXPECT_NEAR(favourite.Share(1'000'000'000), 0.125, 1e-4);
  double before = 2;
  for (int64_t rows = 1; rows < int64_t{1} << 40; rows = rows * 5 / 4 + 1) {
    const double share = favourite.Share(rows);
    EXPECT_GT(share, 0.125) << rows;
    // Not strictly: one more row than a multiple of the experts moves it by a little.
    EXPECT_LT(share, before * 1.02) << rows;
    before = share;
  }
}

TEST(RandomFavouriteTest, HundredsOfExpertsDoNotUnderflow) {
  const RandomFavourite favourite(4096);
  EXPECT_NEAR(favourite.Share(2), 0.5 * (1 + 1.0 / 4096), 1e-9);
  // 64 rows: birthdays. P(all differ) is 0.6087 or so; three alike are rare.
  EXPECT_NEAR(favourite.Share(64), Simulate(4096, 64, 20000, 5), 0.001);
}

}  // namespace
}  // namespace moed
