// What the engine, its ranks and their memory tell.
#pragma once

#include <prometheus/collectable.h>

#include <vector>

#include "server/state/serving_state.h"

namespace moed {

// Thread-safe. Reads the engine when it is asked, under its locks only for as long as a copy of its
// counters takes. Nothing while there is no engine.
class EngineCollector final : public prometheus::Collectable {
 public:
  explicit EngineCollector(const ServingState* state) : state_(state) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const ServingState* const state_;
};

}  // namespace moed
