#include "tests/simulation/simulator.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/engine/engine_impl.h"
#include "tests/simulation/seeded_random.h"
#include "tests/simulation/simulated_client.h"
#include "tests/simulation/simulated_engine.h"
#include "tests/simulation/solo_oracle.h"

namespace moed {
namespace {

// Far more turns than any schedule takes.
constexpr int64_t kMostTurns = 1000000;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr int kEngineWeight = 4;

// A request that was accepted, with all that must outlive it.
struct Live {
  GenerationRequest request;
  std::vector<SoloChoice> solo;  // [n]
  std::unique_ptr<SimulatedClient> client;
  size_t run = 0;
  SequenceId id = 0;
  int32_t num_committed = 0;
};

class Simulation {
 public:
  Simulation(const Scenario& scenario, std::string* trace)
      : scenario_(scenario),
        random_(scenario.seed ^ 0x73696D756C617465u),
        trace_(trace),
        live_(scenario.requests.size()) {
    for (const SimulatedEvent& event : scenario.events) {
      (event.at_token ? token_events_ : timed_events_).push_back(event);
    }
    StartEngine();
  }

  SimulationResult Run() {
    int64_t num_turns = 0;
    while (violation_.empty() && (TakeTurn() || JumpToNext())) {
      Check(++num_turns < kMostTurns, "no end in sight");
    }
    if (violation_.empty()) CheckAllOver();
    for (const auto& run : runs_) run->AddCounts();
    if (!violation_.empty()) Tell("violation: ", violation_);
    return {violation_, counts_};
  }

 private:
  TimePoint now() const {
    return TimePoint(std::chrono::hours(1) + std::chrono::microseconds(now_us_));
  }
  SimulatedEngineRun& engine() { return *runs_.back(); }

  template <typename... Args>
  void Tell(const Args&... what) {
    if (trace_ != nullptr) absl::StrAppend(trace_, now_us_, " us: ", what..., "\n");
  }
  void Check(bool holds, absl::string_view what) {
    if (!holds && violation_.empty()) violation_ = std::string(what);
  }
  void CheckRun(size_t index) {
    const std::string& found = runs_[index]->violation();
    Check(found.empty(), found);
  }

  void StartEngine() {
    runs_.push_back(std::make_unique<SimulatedEngineRun>(scenario_.engine, &counts_));
    engine().tells_story = trace_ != nullptr;
  }

  // Lets a thread that is awake take a turn. False: all sleep.
  bool TakeTurn() {
    if (random_.Between(1, 100) > scenario_.engine.standing_time_percent) {
      now_us_ += random_.Between(1, scenario_.engine.longest_action_us);
    }
    if (FireDueEvents()) return true;
    const bool can_plan = engine().is_awake() && engine().CanPlan();
    const bool can_run = can_plan || engine().CanCommit();
    std::vector<std::pair<int, std::pair<Actor, size_t>>> candidates;
    if (can_run) candidates.push_back({kEngineWeight, {Actor::kEngine, 0}});
    for (size_t run = 0; run < runs_.size(); ++run) {
      if (!runs_[run]->HasOutput()) continue;
      candidates.push_back({scenario_.engine.output_weight, {Actor::kOutput, run}});
    }
    for (size_t i = 0; i < live_.size(); ++i) {
      if (live_[i] == nullptr || !live_[i]->client->is_awake()) continue;
      if (live_[i]->client->stalled_until_us > now_us_) continue;
      candidates.push_back({scenario_.engine.reader_weight, {Actor::kReader, i}});
    }
    if (candidates.empty()) return false;
    int total = 0;
    for (const auto& [weight, actor] : candidates) total += weight;
    int left = random_.Int(0, total - 1);
    size_t chosen = 0;
    while (left >= candidates[chosen].first) left -= candidates[chosen++].first;
    const auto [actor, index] = candidates[chosen].second;
    switch (actor) {
      case Actor::kEngine:
        RunEngine(can_plan);
        break;
      case Actor::kOutput:
        Tell("output");
        runs_[index]->ProcessOutput();
        CheckRun(index);
        break;
      case Actor::kReader:
        Tell("reader ", index);
        live_[index]->client->Turn();
        break;
    }
    return true;
  }

  void RunEngine(bool can_plan) {
    if (can_plan && (!engine().CanCommit() || random_.OneIn(2))) {
      engine().Plan(now());
      Tell("plan", engine().story());
    } else {
      engine().Commit(now());
      Tell("commit", engine().story());
      for (const SequenceId id : engine().committed()) {
        for (const std::unique_ptr<Live>& live : live_) {
          if (live == nullptr || live->run + 1 != runs_.size() || live->id != id) continue;
          ++live->num_committed;
        }
      }
    }
    CheckRun(runs_.size() - 1);
  }

  // True: one was due.
  bool FireDueEvents() {
    for (auto event = token_events_.begin(); event != token_events_.end(); ++event) {
      const Live* live = live_[event->request].get();
      if (live == nullptr || live->num_committed < *event->at_token) continue;
      const SimulatedEvent due = *event;
      token_events_.erase(event);
      Fire(due);
      return true;
    }
    if (next_event_ == timed_events_.size()) return false;
    if (timed_events_[next_event_].at_us > now_us_) return false;
    Fire(timed_events_[next_event_++]);
    return true;
  }

  // False: nothing will ever happen again.
  bool JumpToNext() {
    int64_t next_us = kNever;
    if (next_event_ < timed_events_.size()) next_us = timed_events_[next_event_].at_us;
    for (const std::unique_ptr<Live>& live : live_) {
      if (live == nullptr || !live->client->is_awake()) continue;
      next_us = std::min(next_us, live->client->stalled_until_us);
    }
    if (next_us == kNever) return false;
    now_us_ = std::max(now_us_, next_us);
    return true;
  }

  void Fire(const SimulatedEvent& event) {
    Live* live = event.request < 0 ? nullptr : live_[event.request].get();
    switch (event.kind) {
      case SimulatedEventKind::kSubmit:
        Submit(event.request);
        break;
      case SimulatedEventKind::kCancel:
        if (live == nullptr) return;
        Tell("cancel ", event.request);
        live->client->Allow(absl::CancelledError("the client cancelled"));
        runs_[live->run]->Cancel(live->id, absl::CancelledError("the client cancelled"));
        CheckRun(live->run);
        break;
      case SimulatedEventKind::kReaderGone:
        if (live == nullptr || live->client->has_ended()) return;
        Tell("reader ", event.request, " leaves");
        ++counts_[Happening::kReaderGone];
        live->client->Leave();
        break;
      case SimulatedEventKind::kReaderStalls:
        if (live == nullptr || live->client->has_ended()) return;
        Tell("reader ", event.request, " stalls");
        ++counts_[Happening::kReaderStall];
        live->client->stalled_until_us = now_us_ + event.amount_us;
        break;
      case SimulatedEventKind::kRankFails:
        FailRanks();
        break;
      case SimulatedEventKind::kClockJumps:
        Tell("the clock jumps by ", event.amount_us, " us");
        ++counts_[Happening::kClockJump];
        now_us_ += event.amount_us;
        break;
    }
  }

  void Submit(int index) {
    const SimulatedRequest& simulated = scenario_.requests[index];
    auto live = std::make_unique<Live>();
    live->request = simulated.request;
    if (simulated.deadline_after_us) {
      live->request.deadline = now() + std::chrono::microseconds(*simulated.deadline_after_us);
    }
    // One that is refused may have nothing to continue.
    if (!live->request.prompt_token_ids.empty() && live->request.stopping.max_tokens >= 1) {
      for (int32_t choice = 0; choice < live->request.sampling.n; ++choice) {
        live->solo.emplace_back(scenario_.engine.model, live->request, choice);
      }
    }
    live->client =
        std::make_unique<SimulatedClient>(live->request, live->solo, scenario_.engine.outbox_bytes);
    live->run = runs_.size() - 1;
    const absl::StatusOr<SequenceId> id =
        engine().Submit(live->request, &live->solo, live->client->outbox(), now());
    Tell("submit ", index, id.ok() ? absl::StrCat(" as ", *id) : id.status().ToString());
    CheckRun(live->run);
    if (!id.ok()) {
      ++counts_[Happening::kRefused];
      if (absl::IsResourceExhausted(id.status())) ++counts_[Happening::kQueueFull];
      return;
    }
    ++counts_[Happening::kAccepted];
    live->id = *id;
    live_[index] = std::move(live);
  }

  // As EngineImpl::EnterFault does; the next engine is another process's.
  void FailRanks() {
    Tell("a rank fails");
    ++counts_[Happening::kRankFailure];
    const absl::Status status = absl::UnavailableError(kRankFailedMessage);
    for (const std::unique_ptr<Live>& live : live_) {
      if (live != nullptr && live->run + 1 == runs_.size()) live->client->Allow(status);
    }
    engine().Fail(status, now());
    CheckRun(runs_.size() - 1);
    StartEngine();
  }

  void CheckAllOver() {
    for (size_t i = 0; i < runs_.size(); ++i) {
      runs_[i]->CheckIdle();
      CheckRun(i);
    }
    for (size_t i = 0; i < live_.size() && violation_.empty(); ++i) {
      if (live_[i] == nullptr) continue;
      const SimulatedClient& client = *live_[i]->client;
      const std::string wrong = client.Violation();
      Check(wrong.empty(), absl::StrCat("request ", i, ": ", wrong));
      if (wrong.empty()) CountEnd(client);
    }
  }

  void CountEnd(const SimulatedClient& client) {
    switch (client.end_code()) {
      case absl::StatusCode::kOk:
        ++counts_[Happening::kEndedOk];
        break;
      case absl::StatusCode::kCancelled:
        ++counts_[Happening::kCancel];
        break;
      case absl::StatusCode::kDeadlineExceeded:
        ++counts_[Happening::kDeadline];
        break;
      case absl::StatusCode::kUnavailable:
        ++counts_[Happening::kLostToRank];
        break;
      default:
        if (client.outbox()->overflowed()) ++counts_[Happening::kSlowReader];
    }
  }

  enum class Actor : uint8_t { kEngine, kOutput, kReader };

  const Scenario& scenario_;
  SeededRandom random_;
  std::string* const trace_;
  int64_t now_us_ = 0;
  std::vector<SimulatedEvent> timed_events_;
  size_t next_event_ = 0;  // of timed_events_
  std::vector<SimulatedEvent> token_events_;
  SimulationCounts counts_;
  std::vector<std::unique_ptr<Live>> live_;  // by index of the request; nullptr: not accepted
  std::vector<std::unique_ptr<SimulatedEngineRun>> runs_;  // the last one's ranks have not failed
  std::string violation_;
};

}  // namespace

SimulationResult Simulate(const Scenario& scenario, std::string* trace) {
  return Simulation(scenario, trace).Run();
}

}  // namespace moed
