#include "tests/simulation/minimiser.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "tests/simulation/simulator.h"

namespace moed {
namespace {

[[noreturn]] void RunInChild(const Scenario& scenario, int answer) {
  const int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, STDERR_FILENO);
  const std::string violation = Simulate(scenario, nullptr).violation;
  const ssize_t written = write(answer, violation.data(), violation.size());
  _exit(written == static_cast<ssize_t>(violation.size()) ? 0 : 1);
}

class Minimiser {
 public:
  Minimiser(Scenario failing, std::string violation)
      : best_{std::move(failing), std::move(violation), 0} {}

  MinimisedScenario Run() {
    bool shrinks = true;
    while (shrinks) {
      shrinks = RemoveRequests();
      shrinks |= RemoveEvents();
      for (size_t i = 0; i < best_.scenario.requests.size(); ++i) shrinks |= ShrinkRequest(i);
      shrinks |= ShrinkEngine();
    }
    return std::move(best_);
  }

 private:
  using Change = std::function<void(Scenario*)>;

  // Keeps the change if it changes anything and something is still violated.
  bool Try(const Change& change) {
    Scenario candidate = best_.scenario;
    change(&candidate);
    if (ScenarioText(candidate) == ScenarioText(best_.scenario)) return false;
    ++best_.num_runs;
    std::string violation = ViolationInChild(candidate);
    if (violation.empty()) return false;
    best_.scenario = std::move(candidate);
    best_.violation = std::move(violation);
    return true;
  }

  // Many at once first.
  bool RemoveRequests() {
    bool shrinks = false;
    for (size_t count = best_.scenario.requests.size(); count >= 1; count /= 2) {
      for (size_t first = 0; first < best_.scenario.requests.size();) {
        const bool removed = Try([first, count](Scenario* scenario) {
          RemoveRequestsAt(first, std::min(count, scenario->requests.size() - first), scenario);
        });
        shrinks |= removed;
        if (!removed) first += count;
      }
    }
    return shrinks;
  }

  static void RemoveRequestsAt(size_t first, size_t count, Scenario* scenario) {
    const auto begin = scenario->requests.begin() + static_cast<int64_t>(first);
    scenario->requests.erase(begin, begin + static_cast<int64_t>(count));
    std::vector<SimulatedEvent> kept;
    for (SimulatedEvent event : scenario->events) {
      const auto index = static_cast<size_t>(std::max(event.request, 0));
      if (event.request >= 0 && index >= first && index < first + count) continue;
      if (event.request >= 0 && index >= first) event.request -= static_cast<int>(count);
      kept.push_back(event);
    }
    scenario->events = std::move(kept);
  }

  bool RemoveEvents() {
    bool shrinks = false;
    for (size_t i = 0; i < best_.scenario.events.size();) {
      const bool is_submit = best_.scenario.events[i].kind == SimulatedEventKind::kSubmit;
      const bool removed = !is_submit && Try([i](Scenario* scenario) {
        scenario->events.erase(scenario->events.begin() + static_cast<int64_t>(i));
      });
      shrinks |= removed;
      if (!removed) ++i;
    }
    return shrinks;
  }

  bool ShrinkRequest(size_t index) {
    bool shrinks = false;
    const auto attempt = [&](const std::function<void(GenerationRequest&)>& change) {
      shrinks |= Try([&](Scenario* scenario) { change(scenario->requests[index].request); });
    };
    shrinks |= Try([index](Scenario* s) { s->requests[index].deadline_after_us.reset(); });
    attempt([](GenerationRequest& r) { r.response = ResponseOptions(); });
    attempt([](GenerationRequest& r) {
      const auto [seed, n] = std::pair(r.sampling.seed, r.sampling.n);
      r.sampling = SamplingParams();
      r.sampling.seed = seed;
      r.sampling.n = n;
    });
    attempt([](GenerationRequest& r) {
      const int32_t max_tokens = r.stopping.max_tokens;
      r.stopping = StoppingParams();
      r.stopping.max_tokens = max_tokens;
    });
    attempt([](GenerationRequest& r) { r.stopping.stop_strings.clear(); });
    attempt([](GenerationRequest& r) { r.stopping.stop_token_ids.clear(); });
    attempt([](GenerationRequest& r) { r.stopping.min_tokens = 0; });
    attempt([](GenerationRequest& r) { r.stopping.time_limit.reset(); });
    attempt([](GenerationRequest& r) { r.scheduling = SchedulingParams(); });
    attempt([](GenerationRequest& r) { r.cache = CacheParams(); });
    attempt([](GenerationRequest& r) { r.experts_per_token = 0; });
    attempt([](GenerationRequest& r) { r.sampling.n = std::min(r.sampling.n, 1); });
    attempt([](GenerationRequest& r) { r.sampling.n = std::max(1, r.sampling.n - 1); });
    attempt([](GenerationRequest& r) {
      r.prompt_token_ids.resize((r.prompt_token_ids.size() + 1) / 2);
    });
    attempt([](GenerationRequest& r) {
      r.prompt_token_ids.resize(std::max<size_t>(r.prompt_token_ids.size(), 2) - 1);
    });
    attempt([](GenerationRequest& r) { r.stopping.max_tokens = (r.stopping.max_tokens + 1) / 2; });
    attempt([](GenerationRequest& r) {
      r.stopping.max_tokens = std::max(2, r.stopping.max_tokens) - 1;
    });
    return shrinks;
  }

  bool ShrinkEngine() {
    bool shrinks = false;
    const auto attempt = [&](const std::function<void(SimulatedEngine&)>& change) {
      shrinks |= Try([&](Scenario* scenario) { change(scenario->engine); });
    };
    attempt([](SimulatedEngine& e) { e.scheduler.num_ranks = 1; });
    attempt([](SimulatedEngine& e) { e.max_uncommitted_plans = 1; });
    attempt([](SimulatedEngine& e) { e.flushes_output = true; });
    attempt([](SimulatedEngine& e) { e.scheduler.prefix_cache = false; });
    attempt([](SimulatedEngine& e) { e.scheduler.exchange = ExchangePolicy(); });
    attempt([](SimulatedEngine& e) { e.outbox_bytes = 4096; });
    attempt([](SimulatedEngine& e) { e.model.drops_pairs = false; });
    attempt([](SimulatedEngine& e) { e.scheduler.max_waiting = 64; });
    return shrinks;
  }

  MinimisedScenario best_;
};

}  // namespace

std::string ViolationInChild(const Scenario& scenario) {
  int ends[2];
  MOED_CHECK(pipe(ends) == 0, "no pipe");
  const pid_t child = fork();
  MOED_CHECK(child >= 0, "no process");
  if (child == 0) {
    close(ends[0]);
    RunInChild(scenario, ends[1]);
  }
  close(ends[1]);
  std::string violation;
  char buffer[1024];
  for (ssize_t count = 0; (count = read(ends[0], buffer, sizeof(buffer))) > 0;) {
    violation.append(buffer, static_cast<size_t>(count));
  }
  close(ends[0]);
  int status = 0;
  MOED_CHECK(waitpid(child, &status, 0) == child, "the child is lost");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return violation;
  return "the process dies: a check failed, or worse";
}

MinimisedScenario Minimise(Scenario failing, std::string violation) {
  return Minimiser(std::move(failing), std::move(violation)).Run();
}

}  // namespace moed
