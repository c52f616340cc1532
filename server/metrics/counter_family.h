// Counters of prometheus-cpp's own, named by the catalog.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/registry.h>

#include <initializer_list>
#include <string>

#include "server/metrics/catalog.h"

namespace moed {

// The family lives as long as the registry.
prometheus::Family<prometheus::Counter>& AddCounterFamily(MetricId id,
                                                          prometheus::Registry* registry);

// The counter with these label values, which are made safe; new ones start at 0.
prometheus::Counter& CounterOf(MetricId id, std::initializer_list<std::string> labels,
                               prometheus::Family<prometheus::Counter>* family);

}  // namespace moed
