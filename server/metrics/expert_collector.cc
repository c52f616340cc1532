#include "server/metrics/expert_collector.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/metrics/family_builder.h"
#include "server/metrics/label_text.h"

namespace moed {
namespace {

using Families = std::vector<prometheus::MetricFamily>;

std::vector<std::string> PaddedIndices(int count) {
  std::vector<std::string> labels;
  labels.reserve(static_cast<size_t>(count));
  for (int index = 0; index < count; ++index) labels.push_back(PaddedIndex(index, count));
  return labels;
}

void AddExperts(const ExpertLoad& total, const ServedModel& model, Families* families) {
  const std::vector<std::string> layers = PaddedIndices(total.num_layers);
  const std::vector<std::string> experts = PaddedIndices(total.num_experts);
  FamilyBuilder tokens(MetricId::kExpertTokens, total.expert_tokens.size());
  FamilyBuilder placement(MetricId::kExpertPlacement, total.expert_tokens.size());
  for (int layer = 0; layer < total.num_layers; ++layer) {
    for (int expert = 0; expert < total.num_experts; ++expert) {
      const auto index = static_cast<size_t>(layer) * static_cast<size_t>(total.num_experts) +
                         static_cast<size_t>(expert);
      tokens.Add({layers[layer], experts[expert]}, static_cast<double>(total.expert_tokens[index]));
      if (!model.placement.has_value()) continue;
      placement.Add(
          {layers[layer], experts[expert], absl::StrCat(model.placement->RankOf(layer, expert))},
          1);
    }
  }
  tokens.MoveTo(families);
  placement.MoveTo(families);
}

void AddTotals(const ExpertLoad& total, Families* families) {
  FamilyBuilder tokens(MetricId::kLayerExpertTokens, static_cast<size_t>(total.num_layers));
  for (int layer = 0; layer < total.num_layers; ++layer) {
    tokens.Add({PaddedIndex(layer, total.num_layers)},
               static_cast<double>(total.routing[layer].total));
  }
  tokens.MoveTo(families);
  AddSingle(MetricId::kExpertDroppedTokens, static_cast<double>(total.dropped_pairs), families);
}

void AddWindow(const ExpertLoad& window, Families* families) {
  const auto num_layers = static_cast<size_t>(window.num_layers);
  FamilyBuilder tokens(MetricId::kLayerWindowTokens, num_layers);
  FamilyBuilder max_over_mean(MetricId::kLayerMaxOverMean, num_layers);
  FamilyBuilder gini(MetricId::kLayerGini, num_layers);
  FamilyBuilder entropy(MetricId::kLayerEntropy, num_layers);
  FamilyBuilder dead(MetricId::kLayerDead, num_layers);
  FamilyBuilder repetition(MetricId::kLayerRepetition, num_layers * 2);
  for (size_t layer = 0; layer < num_layers; ++layer) {
    const RoutingSummary& routing = window.routing[layer];
    const std::string label = PaddedIndex(static_cast<int>(layer), window.num_layers);
    tokens.Add({label}, static_cast<double>(routing.total));
    max_over_mean.Add({label}, routing.max_over_mean);
    gini.Add({label}, routing.gini);
    entropy.Add({label}, routing.normalized_entropy);
    dead.Add({label}, routing.num_dead_experts);
    repetition.Add({label, "first"}, window.repetition[layer].first);
    repetition.Add({label, "any"}, window.repetition[layer].any);
  }
  for (FamilyBuilder* family : {&tokens, &max_over_mean, &gini, &entropy, &dead, &repetition}) {
    family->MoveTo(families);
  }
  FamilyBuilder random(MetricId::kRandomRepetition, 2);
  random.Add({"first"}, window.random_repetition.first);
  random.Add({"any"}, window.random_repetition.any);
  random.MoveTo(families);
  AddSingle(MetricId::kLoadWindow, window.covered_seconds, families);
}

}  // namespace

ExpertCollector::ExpertCollector(const ServingState* state, std::function<TimePoint()> now)
    : state_(state), now_(std::move(now)) {}

Families ExpertCollector::Collect() const {
  Families families;
  const absl::StatusOr<Serving> serving = state_->Get();
  if (!serving.ok()) return families;
  const RoutingLedger& routing = serving->engine->routing();
  const TimePoint now = now_();
  const ExpertLoad total = routing.Load(std::nullopt, now);
  const size_t num_pairs = total.expert_tokens.size();
  const bool is_full = num_pairs <= kMaxExpertSeries;
  if (is_full) AddExperts(total, *serving->model, &families);
  AddSingle(MetricId::kExpertSeriesOmitted, is_full ? 0 : static_cast<double>(num_pairs),
            &families);
  AddTotals(total, &families);
  AddWindow(routing.Load(kExpertLoadWindow, now), &families);
  return families;
}

}  // namespace moed
