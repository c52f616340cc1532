#include "server/metrics/daemon_metrics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/metrics/counter_family.h"
#include "server/metrics/family_builder.h"
#include "server/metrics/label_text.h"

namespace moed {
namespace {

using Families = std::vector<prometheus::MetricFamily>;

void AddLifecycle(const LifecycleSnapshot& lifecycle, Families* families) {
  AddSingle(MetricId::kReady, lifecycle.phase == LifecyclePhase::kReady ? 1 : 0, families);
  FamilyBuilder phases(MetricId::kPhase, 5);
  for (const LifecyclePhase phase :
       {LifecyclePhase::kLoading, LifecyclePhase::kReady, LifecyclePhase::kDraining,
        LifecyclePhase::kFailed, LifecyclePhase::kStopped}) {
    phases.Add({LifecyclePhaseName(phase)}, lifecycle.phase == phase ? 1 : 0);
  }
  phases.MoveTo(families);
  FamilyBuilder progress(MetricId::kLoadProgress, lifecycle.ranks.size());
  for (size_t rank = 0; rank < lifecycle.ranks.size(); ++rank) {
    const RankLoad& load = lifecycle.ranks[rank];
    progress.Add({absl::StrCat(rank), SafeLabel(absl::StrReplaceAll(load.phase, {{" ", "_"}}))},
                 load.fraction);
  }
  progress.MoveTo(families);
}

void AddRanksUp(const LifecycleSnapshot& lifecycle, const absl::StatusOr<Serving>& serving,
                Families* families) {
  const bool is_up =
      serving.ok() && serving->engine->Stats().fault.ok() &&
      (lifecycle.phase == LifecyclePhase::kReady || lifecycle.phase == LifecyclePhase::kDraining);
  const size_t num_ranks =
      std::max(lifecycle.ranks.size(),
               serving.ok() ? static_cast<size_t>(serving->model->num_ranks) : size_t{0});
  FamilyBuilder up(MetricId::kRankUp, num_ranks);
  for (size_t rank = 0; rank < num_ranks; ++rank) up.Add({absl::StrCat(rank)}, is_up ? 1 : 0);
  up.MoveTo(families);
}

void AddModel(const ServedModel& model, Families* families) {
  FamilyBuilder info(MetricId::kModelInfo);
  info.Add({SafeLabel(model.name), SafeLabel(model.config.architecture), DTypeName(model.dtype),
            absl::StrCat(model.config.num_layers), absl::StrCat(model.config.num_experts),
            absl::StrCat(model.config.top_k), absl::StrCat(model.num_ranks)},
           1);
  info.MoveTo(families);
}

}  // namespace

DaemonMetrics::DaemonMetrics(const ServingState* state, const Lifecycle* lifecycle,
                             std::string version)
    : state_(state),
      lifecycle_(lifecycle),
      version_(std::move(version)),
      reloads_(AddCounterFamily(MetricId::kReloads, &registry_)) {
  // Those that are there from the start have a rate from the first failure on.
  for (const char* what : {"keys", "certificates"}) {
    for (const char* result : {"success", "failure"}) {
      CounterOf(MetricId::kReloads, {what, result}, &reloads_);
    }
  }
}

void DaemonMetrics::OnReload(absl::string_view what, bool succeeded) {
  CounterOf(MetricId::kReloads, {std::string(what), succeeded ? "success" : "failure"}, &reloads_)
      .Increment();
}

Families DaemonMetrics::Collect() const {
  Families families = registry_.Collect();
  const LifecycleSnapshot lifecycle = lifecycle_->Snapshot();
  const absl::StatusOr<Serving> serving = state_->Get();
  AddLifecycle(lifecycle, &families);
  AddRanksUp(lifecycle, serving, &families);
  FamilyBuilder build(MetricId::kBuildInfo);
  build.Add({SafeLabel(version_)}, 1);
  build.MoveTo(&families);
  if (serving.ok()) AddModel(*serving->model, &families);
  const double expiry = certificate_expiry_;
  if (!std::isnan(expiry)) AddSingle(MetricId::kCertificateExpiry, expiry, &families);
  AddSingle(MetricId::kConnectionWaits, static_cast<double>(connection_waits_.load()), &families);
  return families;
}

}  // namespace moed
