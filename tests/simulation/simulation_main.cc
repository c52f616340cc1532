#include "tests/simulation/simulation_tool.h"

int main(int argc, char** argv) { return moed::SimulationTool(argc, argv); }
