// Where tokens go, by layer and expert: the page /metrics/experts.
#pragma once

#include <prometheus/collectable.h>

#include <chrono>
#include <functional>
#include <vector>

#include "runtime/schedule/request.h"
#include "server/state/serving_state.h"

namespace moed {

// Pairs of layer and expert that get series of their own. A model with more has those of each layer
// only: the ratios, which need no series per expert, and the layer's sum. Whoever needs the experts
// asks ExpertService.
inline constexpr int kMaxExpertSeries = 2048;

// What the ratios are made from.
inline constexpr std::chrono::seconds kExpertLoadWindow{60};

// Thread-safe. Nothing while there is no engine.
class ExpertCollector final : public prometheus::Collectable {
 public:
  ExpertCollector(const ServingState* state, std::function<TimePoint()> now);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const ServingState* const state_;
  const std::function<TimePoint()> now_;
};

}  // namespace moed
