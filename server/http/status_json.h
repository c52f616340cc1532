// The daemon's state as JSON, for the page and for scripts.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

// {phase, percent, ranks: [{rank, phase, percent}]}: how far each rank has loaded.
std::string MakeStartup(const LifecycleSnapshot& lifecycle);

struct StatusRequest {
  std::optional<std::chrono::seconds> window;  // of the expert load; nullopt: since the start
  std::chrono::duration<double> uptime{};
};

// MakeStartup's fields as `phase` and `load`, `uptime_seconds`, and where there is a model:
//   model     {name, layers, experts, top_k, ranks, dtype, context_tokens, backend}
//   ranks     [{rank, kv_blocks: {total, free, cached}, steps, compute_seconds, wait_seconds,
//             routed_pairs, exchange_bytes: {sent, received}, memory_bytes: {weights, ...}}]
//   requests  {waiting, running} continuations
//   counters  {steps, computed_tokens, prompt_tokens, cached_tokens, recomputed_tokens,
//             preemptions, dropped_pairs}, since the start
//   experts   {window_seconds (null: since the start), covered_seconds, random_repetition,
//             layers: [{tokens, ranks, max_over_mean, gini, entropy, dead, repetition}]}
// No text of requests, no addresses, no paths.
std::string MakeStatus(const LifecycleSnapshot& lifecycle, const Serving* serving,
                       const StatusRequest& request);

}  // namespace moed
