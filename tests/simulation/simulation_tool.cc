#include "tests/simulation/simulation_tool.h"

#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/simulation/minimiser.h"
#include "tests/simulation/scenario_generator.h"
#include "tests/simulation/simulator.h"

namespace moed {
namespace {

constexpr const char* kHelp = R"(moed_simulation [options]

Runs seeded schedules through the scheduler, the KV blocks, the output and the outboxes, and checks
after every step what docs/simulation.md says must hold. Ends at the first seed that breaks it.

  --seeds N           how many seeds (default 2000)
  --first-seed S      the first of them (default 1)
  --seed S            this seed only, and tell all that happens
  --minimise          cut the scenario of the failing seed down to the smallest that fails
  --all-must-happen   fail as well where something that is counted never happened
  --must-fail         fail unless a seed fails (for planted bugs)
  --help              this text

Exit status: 0, or 1 where something was violated, or 64 for wrong options.
)";

struct Options {
  uint64_t num_seeds = 2000;
  uint64_t first_seed = 1;
  bool is_replay = false;
  bool minimises = false;
  bool all_must_happen = false;
  bool must_fail = false;
};

// A failed MOED_CHECK ends the process; the seed is told all the same.
volatile uint64_t seed_that_runs = 0;
volatile uint64_t num_seeds_before = 0;
volatile bool is_failure_expected = false;
const std::string* trace_that_grows = nullptr;  // told as well, if there is one

void OnAbort(int) {
  if (trace_that_grows != nullptr) {
    std::fputs(trace_that_grows->c_str(), stdout);
    std::fflush(stdout);
  }
  char text[160];
  const int size =
      std::snprintf(text, sizeof(text), "seed %llu fails after %llu good ones: a check failed\n",
                    static_cast<unsigned long long>(seed_that_runs),
                    static_cast<unsigned long long>(num_seeds_before));
  const ssize_t written = write(STDOUT_FILENO, text, static_cast<size_t>(size));
  _exit(is_failure_expected && written == size ? 0 : 1);
}

int WrongUse(absl::string_view what) {
  std::fprintf(stderr, "moed_simulation: %s (see --help)\n", std::string(what).c_str());
  return 64;
}

// True: `text` is a number.
bool ParseNumber(const char* text, uint64_t* value) {
  return text != nullptr && absl::SimpleAtoi(text, value);
}

std::pair<std::string, SimulationResult> TracedSimulation(const Scenario& scenario) {
  std::fflush(stdout);
  std::string trace;
  trace_that_grows = &trace;
  SimulationResult result = Simulate(scenario, &trace);
  trace_that_grows = nullptr;
  return {std::move(trace), std::move(result)};
}

void PrintMinimised(const Scenario& failing, const std::string& violation) {
  const MinimisedScenario smallest = Minimise(failing, violation);
  std::printf("the smallest that fails, after %lld runs:\n%s",
              static_cast<long long>(smallest.num_runs), ScenarioText(smallest.scenario).c_str());
  std::printf("violation: %s\n", smallest.violation.c_str());
  std::fputs(TracedSimulation(smallest.scenario).first.c_str(), stdout);
}

int Replay(const Options& options) {
  const Scenario scenario = MakeScenario(options.first_seed);
  std::fputs(ScenarioText(scenario).c_str(), stdout);
  std::string violation = ViolationInChild(scenario);
  if (!violation.empty() && options.minimises) {
    PrintMinimised(scenario, violation);
    return 1;
  }
  const auto [trace, result] = TracedSimulation(scenario);
  std::printf("%s%s", trace.c_str(), result.counts.Text().c_str());
  std::printf("%s\n", result.violation.empty() ? "everything held" : result.violation.c_str());
  return result.violation.empty() ? 0 : 1;
}

int RunSeeds(const Options& options) {
  SimulationCounts counts;
  const absl::Time start = absl::Now();
  for (uint64_t i = 0; i < options.num_seeds; ++i) {
    const uint64_t seed = options.first_seed + i;
    seed_that_runs = seed;
    num_seeds_before = i;
    const Scenario scenario = MakeScenario(seed);
    const SimulationResult result = Simulate(scenario, nullptr);
    counts.Add(result.counts);
    if (result.violation.empty()) continue;
    std::printf("seed %llu fails after %llu good ones: %s\n", static_cast<unsigned long long>(seed),
                static_cast<unsigned long long>(i), result.violation.c_str());
    if (options.minimises) PrintMinimised(scenario, result.violation);
    std::printf("again: moed_simulation --seed %llu [--minimise]\n",
                static_cast<unsigned long long>(seed));
    return options.must_fail ? 0 : 1;
  }
  std::printf("%s%llu seeds from %llu, no violation, %.1f s (%.1f s of processor)\n",
              counts.Text().c_str(), static_cast<unsigned long long>(options.num_seeds),
              static_cast<unsigned long long>(options.first_seed),
              absl::ToDoubleSeconds(absl::Now() - start),
              static_cast<double>(std::clock()) / CLOCKS_PER_SEC);
  if (options.must_fail) {
    std::puts("no seed fails, though one must");
    return 1;
  }
  if (!options.all_must_happen || counts.Missing().empty()) return 0;
  std::printf("never happened: %s\n", absl::StrJoin(counts.Missing(), ", ").c_str());
  return 1;
}

}  // namespace

int SimulationTool(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const absl::string_view name = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (name == "--help") {
      std::fputs(kHelp, stdout);
      return 0;
    }
    if (name == "--minimise") {
      options.minimises = true;
    } else if (name == "--all-must-happen") {
      options.all_must_happen = true;
    } else if (name == "--must-fail") {
      options.must_fail = true;
    } else if (name == "--seeds" || name == "--first-seed" || name == "--seed") {
      uint64_t* number = name == "--seeds" ? &options.num_seeds : &options.first_seed;
      if (!ParseNumber(value, number)) return WrongUse(absl::StrCat(name, " needs a number"));
      if (name == "--seed") options.is_replay = true;
      ++i;
    } else {
      return WrongUse(absl::StrCat("no option ", name));
    }
  }
  is_failure_expected = options.must_fail;
  seed_that_runs = options.first_seed;
  std::signal(SIGABRT, OnAbort);
  return options.is_replay ? Replay(options) : RunSeeds(options);
}

}  // namespace moed
