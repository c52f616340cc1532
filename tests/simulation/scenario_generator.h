// Seeds to scenarios.
#pragma once

#include <cstdint>

#include "tests/simulation/scenario.h"

namespace moed {

// Small engines that are short of everything, and requests that ask for everything.
Scenario MakeScenario(uint64_t seed);

}  // namespace moed
