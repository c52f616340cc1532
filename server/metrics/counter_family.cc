#include "server/metrics/counter_family.h"

#include "kernels/core/check.h"
#include "server/metrics/label_text.h"

namespace moed {

prometheus::Family<prometheus::Counter>& AddCounterFamily(MetricId id,
                                                          prometheus::Registry* registry) {
  const MetricDefinition& definition = Definition(id);
  return prometheus::BuildCounter().Name(definition.name).Help(definition.help).Register(*registry);
}

prometheus::Counter& CounterOf(MetricId id, std::initializer_list<std::string> labels,
                               prometheus::Family<prometheus::Counter>* family) {
  const MetricDefinition& definition = Definition(id);
  MOED_CHECK(static_cast<int>(labels.size()) == definition.num_labels(),
             "a counter has labels that the catalog does not have");
  prometheus::Labels named;
  size_t index = 0;
  for (const std::string& value : labels) named[definition.labels[index++]] = SafeLabel(value);
  return family->Add(named);
}

}  // namespace moed
