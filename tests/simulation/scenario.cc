#include "tests/simulation/scenario.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace moed {
namespace {

const char* KindName(SimulatedEventKind kind) {
  switch (kind) {
    case SimulatedEventKind::kSubmit:
      return "submit";
    case SimulatedEventKind::kCancel:
      return "cancel";
    case SimulatedEventKind::kReaderGone:
      return "reader gone";
    case SimulatedEventKind::kReaderStalls:
      return "reader stalls";
    case SimulatedEventKind::kRankFails:
      return "rank fails";
    case SimulatedEventKind::kClockJumps:
      return "clock jumps";
  }
  return "?";
}

std::string RequestText(const SimulatedRequest& simulated) {
  const GenerationRequest& request = simulated.request;
  std::string text =
      absl::StrCat("prompt [", absl::StrJoin(request.prompt_token_ids, " "), "] max_tokens ",
                   request.stopping.max_tokens, " seed ", request.sampling.seed);
  const auto add = [&text](bool is_set, const auto&... what) {
    if (is_set) absl::StrAppend(&text, " ", what...);
  };
  const StoppingParams& stopping = request.stopping;
  const ResponseOptions& response = request.response;
  add(request.sampling.n != 1, "n ", request.sampling.n);
  add(NeedsHistory(request.sampling), "with history");
  add(stopping.min_tokens > 0, "min_tokens ", stopping.min_tokens);
  add(!stopping.stop_token_ids.empty(), "stop ids ", absl::StrJoin(stopping.stop_token_ids, ","));
  add(!stopping.stop_strings.empty(), "stop strings ", absl::StrJoin(stopping.stop_strings, "|"));
  add(stopping.include_stop, "include_stop");
  if (stopping.time_limit) add(true, "time_limit ", stopping.time_limit->count(), " ms");
  add(!response.text, "no text");
  add(response.num_logprobs >= 0, "logprobs ", response.num_logprobs);
  add(response.num_prompt_logprobs >= 0, "prompt_logprobs ", response.num_prompt_logprobs);
  add(response.echo, "echo");
  add(!response.skip_special_tokens, "with special tokens");
  add(response.routed_experts, "routed_experts");
  add(request.experts_per_token > 0, "experts_per_token ", request.experts_per_token);
  add(request.scheduling.priority != 0, "priority ", request.scheduling.priority);
  if (request.scheduling.home_rank) add(true, "home rank ", *request.scheduling.home_rank);
  add(request.cache.bypass, "bypasses the cache");
  add(!request.cache.salt.empty(), "salt ", request.cache.salt);
  if (simulated.deadline_after_us)
    add(true, "deadline after ", *simulated.deadline_after_us, " us");
  return text;
}

}  // namespace

std::string ScenarioText(const Scenario& scenario) {
  const SimulatedEngine& engine = scenario.engine;
  const SchedulerOptions& scheduler = engine.scheduler;
  std::string text = absl::StrCat(
      "seed ", scenario.seed, ": ", scheduler.num_ranks, " ranks, ", scheduler.num_blocks_per_rank,
      " blocks of ", scheduler.block_size, ", ", scheduler.max_sequences_per_rank,
      " slots, budget ", scheduler.token_budget, ", queue ", scheduler.max_waiting, ", ageing ",
      scheduler.ageing.count(), " ms, outbox ", engine.outbox_bytes, " bytes, ",
      engine.max_uncommitted_plans - 1, " plans ahead",
      scheduler.prefix_cache ? "" : ", no prefix cache",
      engine.flushes_output ? "" : ", output lags", "\n");
  for (size_t i = 0; i < scenario.requests.size(); ++i) {
    absl::StrAppend(&text, "  request ", i, ": ", RequestText(scenario.requests[i]), "\n");
  }
  for (const SimulatedEvent& event : scenario.events) {
    if (event.at_token) {
      absl::StrAppend(&text, "  at token ", *event.at_token, ": ");
    } else {
      absl::StrAppend(&text, "  at ", event.at_us, " us: ");
    }
    absl::StrAppend(&text, KindName(event.kind));
    if (event.request >= 0) absl::StrAppend(&text, " of request ", event.request);
    if (event.amount_us != 0) absl::StrAppend(&text, ", ", event.amount_us, " us");
    absl::StrAppend(&text, "\n");
  }
  return text;
}

}  // namespace moed
