#include "server/metrics/engine_collector.h"

#include <array>
#include <cstddef>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/metrics/family_builder.h"

namespace moed {
namespace {

using Families = std::vector<prometheus::MetricFamily>;

// By MemoryKind.
constexpr std::array<const char*, 5> kMemoryKindNames = {"weights", "kv_cache", "activations",
                                                         "exchange", "workspace"};

double Number(int64_t value) { return static_cast<double>(value); }

void AddRequests(const EngineStats& stats, Families* families) {
  const SchedulerCounters& counters = stats.counters;
  AddSingle(MetricId::kRequestsWaiting, stats.requests_waiting, families);
  AddSingle(MetricId::kRequestsRunning, stats.requests_running, families);
  AddSingle(MetricId::kPromptTokens, Number(counters.prompt_tokens), families);
  AddSingle(MetricId::kCachedTokens, Number(counters.cached_tokens), families);
  AddSingle(MetricId::kRecomputedTokens, Number(counters.recomputed_tokens), families);
  AddSingle(MetricId::kPreemptions, Number(counters.preemptions), families);
}

void AddSteps(const EngineStats& stats, Families* families) {
  FamilyBuilder durations(MetricId::kStepDuration, kNumStepPhases);
  for (int phase = 0; phase < kNumStepPhases; ++phase) {
    const HistogramCounts& counts = stats.steps.duration_seconds[static_cast<size_t>(phase)];
    durations.AddHistogram({StepPhaseName(static_cast<StepPhase>(phase))}, kStepDurationBounds,
                           counts.buckets, counts.sum);
  }
  durations.MoveTo(families);
  FamilyBuilder tokens(MetricId::kStepTokens);
  tokens.AddHistogram({}, kStepTokensBounds, stats.steps.tokens.buckets, stats.steps.tokens.sum);
  tokens.MoveTo(families);
  AddSingle(MetricId::kEngineTurn, std::chrono::duration<double>(stats.turn_age).count(), families);
}

void AddKvCache(const EngineStats& stats, Families* families) {
  const size_t num_ranks = stats.total_kv_blocks.size();
  const int64_t total =
      std::accumulate(stats.total_kv_blocks.begin(), stats.total_kv_blocks.end(), int64_t{0});
  const int64_t free =
      std::accumulate(stats.free_kv_blocks.begin(), stats.free_kv_blocks.end(), int64_t{0});
  AddSingle(MetricId::kKvCacheUsage, total > 0 ? Number(total - free) / Number(total) : 0,
            families);
  FamilyBuilder blocks(MetricId::kKvBlocks, num_ranks * 3);
  for (size_t rank = 0; rank < num_ranks; ++rank) {
    const std::string label = absl::StrCat(rank);
    const int64_t free_here = stats.free_kv_blocks[rank];
    const int64_t cached = stats.cached_kv_blocks[rank];
    blocks.Add({label, "used"}, Number(stats.total_kv_blocks[rank] - free_here));
    blocks.Add({label, "cached"}, Number(cached));
    blocks.Add({label, "free"}, Number(free_here - cached));
  }
  blocks.MoveTo(families);
}

void AddMemory(const ServedModel& model, Families* families) {
  static_assert(kMemoryKindNames.size() ==
                std::tuple_size_v<decltype(RankDescription::memory_bytes)>);
  FamilyBuilder memory(MetricId::kDeviceMemory, model.ranks.size() * kMemoryKindNames.size());
  for (size_t rank = 0; rank < model.ranks.size(); ++rank) {
    for (size_t kind = 0; kind < kMemoryKindNames.size(); ++kind) {
      memory.Add({absl::StrCat(rank), kMemoryKindNames[kind]},
                 Number(model.ranks[rank].memory_bytes[kind]));
    }
  }
  memory.MoveTo(families);
}

void AddRanks(const std::vector<RankTotals>& ranks, Families* families) {
  FamilyBuilder steps(MetricId::kRankSteps, ranks.size());
  FamilyBuilder compute(MetricId::kRankCompute, ranks.size());
  FamilyBuilder wait(MetricId::kRankCollectiveWait, ranks.size());
  FamilyBuilder routed(MetricId::kRankRoutedTokens, ranks.size());
  FamilyBuilder exchange(MetricId::kExchangeBytes, ranks.size() * 2);
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankTotals& totals = ranks[rank];
    const std::string label = absl::StrCat(rank);
    steps.Add({label}, static_cast<double>(totals.num_steps));
    compute.Add({label}, totals.compute_seconds);
    wait.Add({label}, totals.collective_wait_seconds);
    routed.Add({label}, Number(totals.routed_pairs));
    exchange.Add({label, "sent"}, Number(totals.exchange_bytes_sent));
    exchange.Add({label, "received"}, Number(totals.exchange_bytes_received));
  }
  for (FamilyBuilder* family : {&steps, &compute, &wait, &routed, &exchange}) {
    family->MoveTo(families);
  }
}

}  // namespace

Families EngineCollector::Collect() const {
  Families families;
  const absl::StatusOr<Serving> serving = state_->Get();
  if (!serving.ok()) return families;
  const EngineStats stats = serving->engine->Stats();
  AddRequests(stats, &families);
  AddSteps(stats, &families);
  AddKvCache(stats, &families);
  AddMemory(*serving->model, &families);
  AddRanks(serving->engine->routing().Ranks(), &families);
  return families;
}

}  // namespace moed
