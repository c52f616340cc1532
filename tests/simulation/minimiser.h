// Cuts a scenario that breaks an invariant down to what it takes.
#pragma once

#include <cstdint>
#include <string>

#include "tests/simulation/scenario.h"

namespace moed {

// What is violated, or empty. Runs in a process of its own, so that a failed MOED_CHECK is an
// answer too; what it prints is lost.
std::string ViolationInChild(const Scenario& scenario);

struct MinimisedScenario {
  Scenario scenario;
  std::string violation;  // of the scenario; may be another than at first
  int64_t num_runs = 0;
};

// `violation` is what `failing` violates. Takes away requests, events, parameters and sizes, as
// long as anything is violated; ends when nothing more can be taken away alone.
MinimisedScenario Minimise(Scenario failing, std::string violation);

}  // namespace moed
