// The command line of moed_simulation.
#pragma once

namespace moed {

// Runs seeded schedules and says which seed breaks an invariant; returns the exit status.
int SimulationTool(int argc, char** argv);

}  // namespace moed
