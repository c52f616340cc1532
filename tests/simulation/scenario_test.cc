#include "tests/simulation/scenario.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "tests/simulation/scenario_generator.h"
#include "tests/simulation/simulator.h"

namespace moed {
namespace {

TEST(ScenarioTest, ASeedGivesTheSameScheduleAgain) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    std::string first;
    std::string second;
    Simulate(MakeScenario(seed), &first);
    Simulate(MakeScenario(seed), &second);
    ASSERT_EQ(first, second) << "seed " << seed;
    ASSERT_FALSE(first.empty()) << "seed " << seed;
  }
}

TEST(ScenarioTest, SeedsGiveDifferentSchedules) {
  std::set<std::string> texts;
  for (uint64_t seed = 1; seed <= 100; ++seed) texts.insert(ScenarioText(MakeScenario(seed)));
  EXPECT_EQ(texts.size(), 100u);
}

}  // namespace
}  // namespace moed
