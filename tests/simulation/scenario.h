// What happens in one simulated schedule, as plain data: it can be printed, cut down and run again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/schedule/request.h"
#include "runtime/schedule/scheduler.h"
#include "tests/support/fake_model.h"

namespace moed {

struct SimulatedEngine {
  SchedulerOptions scheduler;
  FakeModel model;
  int64_t outbox_bytes = 1;
  int max_uncommitted_plans = 1;  // 2: it may plan ahead, and does so now and then
  bool flushes_output = true;     // before a plan, as the engine does; else output may lag
  int standing_time_percent = 0;  // how often the clock has not moved since the last look
  int64_t longest_action_us = 1;  // else it has moved up to so much
  int output_weight = 1;          // how often the output thread gets a turn, of
  int reader_weight = 1;          // these, and of the engine's four
};

struct SimulatedRequest {
  GenerationRequest request;                 // but for its deadline
  std::optional<int64_t> deadline_after_us;  // since it was submitted; may be negative
};

enum class SimulatedEventKind : uint8_t {
  kSubmit,
  kCancel,        // by the client, with CANCELLED
  kReaderGone,    // the reader closes its outbox and says nothing
  kReaderStalls,  // for `amount_us`
  kRankFails,     // the step that runs, or the next one: everything ends, a new engine starts
  kClockJumps,    // by `amount_us`, forward
};

struct SimulatedEvent {
  SimulatedEventKind kind = SimulatedEventKind::kSubmit;
  int64_t at_us = 0;
  // Set: not at a time, but as soon as so many tokens of the request's continuations have been
  // committed.
  std::optional<int32_t> at_token;
  int request = -1;
  int64_t amount_us = 0;
};

struct Scenario {
  uint64_t seed = 0;  // of every choice that is left to chance while it runs
  SimulatedEngine engine;
  std::vector<SimulatedRequest> requests;
  std::vector<SimulatedEvent> events;  // those with a time ascend
};

// For people.
std::string ScenarioText(const Scenario& scenario);

}  // namespace moed
