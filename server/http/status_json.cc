#include "server/http/status_json.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "kernels/core/dtype.h"

namespace moed {
namespace {

using Json = nlohmann::json;

// By MemoryKind.
constexpr std::array<const char*, kNumMemoryKinds> kMemoryKinds = {
    "weights", "kv_cache", "activations", "exchange", "workspace"};

// Whole percents that reach 100 at the end only.
int Percent(double fraction) { return static_cast<int>(std::floor(fraction * 100)); }

Json Startup(const LifecycleSnapshot& lifecycle) {
  Json ranks = Json::array();
  for (size_t rank = 0; rank < lifecycle.ranks.size(); ++rank) {
    ranks.push_back({{"rank", rank},
                     {"phase", lifecycle.ranks[rank].phase},
                     {"percent", Percent(lifecycle.ranks[rank].fraction)}});
  }
  return {{"phase", LifecyclePhaseName(lifecycle.phase)},
          {"percent", Percent(lifecycle.load_fraction)},
          {"ranks", std::move(ranks)}};
}

Json Model(const ServedModel& model) {
  return {{"name", model.name},
          {"layers", model.config.num_layers},
          {"experts", model.config.num_experts},
          {"top_k", model.config.top_k},
          {"ranks", model.num_ranks},
          {"dtype", DTypeName(model.dtype)},
          {"context_tokens", model.context_tokens},
          {"backend", model.backend}};
}

Json Rank(const ServedModel& model, const EngineStats& stats, const RankTotals& totals,
          size_t rank) {
  Json memory = Json::object();
  if (rank < model.ranks.size()) {
    for (size_t kind = 0; kind < kMemoryKinds.size(); ++kind) {
      memory[kMemoryKinds[kind]] = model.ranks[rank].memory_bytes[kind];
    }
  }
  Json blocks = Json::object();
  if (rank < stats.total_kv_blocks.size()) {
    blocks = {{"total", stats.total_kv_blocks[rank]},
              {"free", stats.free_kv_blocks[rank]},
              {"cached", stats.cached_kv_blocks[rank]}};
  }
  return {{"rank", rank},
          {"kv_blocks", std::move(blocks)},
          {"steps", totals.num_steps},
          {"compute_seconds", totals.compute_seconds},
          {"wait_seconds", totals.collective_wait_seconds},
          {"routed_pairs", totals.routed_pairs},
          {"exchange_bytes",
           {{"sent", totals.exchange_bytes_sent}, {"received", totals.exchange_bytes_received}}},
          {"memory_bytes", std::move(memory)}};
}

Json Layer(const ExpertLoad& load, const ServedModel& model, int layer) {
  const auto tokens = absl::MakeConstSpan(load.expert_tokens)
                          .subspan(size_t(layer) * load.num_experts, load.num_experts);
  const RoutingSummary& routing = load.routing[layer];
  const RepetitionSummary& repetition = load.repetition[layer];
  Json ranks = Json::array();
  if (model.placement.has_value()) {
    for (const int32_t rank : model.placement->RankOfExpert(layer)) ranks.push_back(rank);
  }
  return {{"tokens", std::vector<int64_t>(tokens.begin(), tokens.end())},
          {"ranks", std::move(ranks)},
          {"max_over_mean", routing.max_over_mean},
          {"gini", routing.gini},
          {"entropy", routing.normalized_entropy},
          {"dead", routing.num_dead_experts},
          {"repetition",
           {{"rows", repetition.num_rows}, {"first", repetition.first}, {"any", repetition.any}}}};
}

Json Experts(const Serving& serving, std::optional<std::chrono::seconds> window) {
  const ExpertLoad load = serving.engine->routing().Load(window, std::chrono::steady_clock::now());
  Json layers = Json::array();
  for (int layer = 0; layer < load.num_layers; ++layer) {
    layers.push_back(Layer(load, *serving.model, layer));
  }
  Json experts = {{"window_seconds", nullptr},
                  {"covered_seconds", load.covered_seconds},
                  {"random_repetition",
                   {{"first", load.random_repetition.first}, {"any", load.random_repetition.any}}},
                  {"layers", std::move(layers)}};
  if (window.has_value()) experts["window_seconds"] = window->count();
  return experts;
}

void AddServing(const Serving& serving, std::optional<std::chrono::seconds> window, Json* status) {
  const EngineStats stats = serving.engine->Stats();
  (*status)["model"] = Model(*serving.model);
  (*status)["requests"] = {{"waiting", stats.requests_waiting},
                           {"running", stats.requests_running}};
  (*status)["counters"] = {{"steps", stats.counters.steps},
                           {"computed_tokens", stats.steps.tokens.sum},
                           {"prompt_tokens", stats.counters.prompt_tokens},
                           {"cached_tokens", stats.counters.cached_tokens},
                           {"recomputed_tokens", stats.counters.recomputed_tokens},
                           {"preemptions", stats.counters.preemptions},
                           {"dropped_pairs", stats.counters.dropped_pairs}};
  const std::vector<RankTotals> totals = serving.engine->routing().Ranks();
  Json ranks = Json::array();
  for (size_t rank = 0; rank < totals.size(); ++rank) {
    ranks.push_back(Rank(*serving.model, stats, totals[rank], rank));
  }
  (*status)["ranks"] = std::move(ranks);
  (*status)["experts"] = Experts(serving, window);
}

// A model's name is the operator's; one that is not UTF-8 must not throw.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string MakeStartup(const LifecycleSnapshot& lifecycle) { return Dump(Startup(lifecycle)); }

std::string MakeStatus(const LifecycleSnapshot& lifecycle, const Serving* serving,
                       const StatusRequest& request) {
  Json status = {{"phase", LifecyclePhaseName(lifecycle.phase)},
                 {"load", Startup(lifecycle)},
                 {"uptime_seconds", request.uptime.count()}};
  if (serving != nullptr) AddServing(*serving, request.window, &status);
  return Dump(status);
}

}  // namespace moed
