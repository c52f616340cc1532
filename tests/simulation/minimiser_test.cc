#include "tests/simulation/minimiser.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/simulation/scenario_generator.h"

namespace moed {
namespace {

// A scenario that fails for a reason of its own: one name for two requests, of which the books then
// know only one.
Scenario WithANameTwice() {
  Scenario scenario = MakeScenario(1);
  for (uint64_t seed = 2; scenario.requests.size() < 8; ++seed) scenario = MakeScenario(seed);
  for (SimulatedRequest& simulated : scenario.requests) {
    GenerationRequest& request = simulated.request;
    request.prompt_token_ids = {1, 2, 3};
    request.sampling.n = 1;
    request.sampling.seed = 7;
    request.stopping = StoppingParams();
    request.stopping.max_tokens = 2;
    request.scheduling = SchedulingParams();
    simulated.deadline_after_us.reset();
  }
  for (SimulatedEvent& event : scenario.events) {
    if (event.kind == SimulatedEventKind::kSubmit) event.at_us = 0;
  }
  return scenario;
}

TEST(MinimiserTest, LeavesOnlyWhatItTakesToFail) {
  const Scenario failing = WithANameTwice();
  const std::string violation = ViolationInChild(failing);
  ASSERT_NE(violation, "");
  const MinimisedScenario smallest = Minimise(failing, violation);
  EXPECT_EQ(ViolationInChild(smallest.scenario), smallest.violation);
  EXPECT_EQ(smallest.scenario.requests.size(), 2u) << ScenarioText(smallest.scenario);
  EXPECT_EQ(smallest.scenario.events.size(), 2u) << ScenarioText(smallest.scenario);
}

TEST(MinimiserTest, TellsWhenTheProcessDies) {
  Scenario scenario = MakeScenario(1);
  scenario.engine.scheduler.num_blocks_per_rank = 0;  // the scheduler checks its own sizes
  EXPECT_EQ(ViolationInChild(scenario), "the process dies: a check failed, or worse");
}

}  // namespace
}  // namespace moed
