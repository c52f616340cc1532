// Runs one scenario through the real scheduler and the real output, in one thread. The threads of
// the daemon are actors here: the engine, the output and each request's writer take turns as the
// seed has it, and those that sleep get none until they are woken.
#pragma once

#include <string>

#include "tests/simulation/scenario.h"
#include "tests/simulation/simulation_counts.h"

namespace moed {

struct SimulationResult {
  std::string violation;  // empty: everything held
  SimulationCounts counts;
};

// `trace`: nullptr, or receives every event, a line each.
SimulationResult Simulate(const Scenario& scenario, std::string* trace);

}  // namespace moed
