// One metric of the catalog as prometheus-cpp wants it.
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "server/metrics/catalog.h"

namespace moed {

// Series are written in the order in which they are added.
class FamilyBuilder {
 public:
  explicit FamilyBuilder(MetricId id, size_t num_series = 1);

  // labels: the values, one for each name that the catalog has, SafeLabel where they are not ours.
  void Add(std::initializer_list<std::string> labels, double value);
  void Add(double value) { Add({}, value); }
  // buckets [bounds + 1], not cumulative.
  void AddHistogram(std::initializer_list<std::string> labels, absl::Span<const double> bounds,
                    absl::Span<const uint64_t> buckets, double sum);

  // A family without series is left out.
  void MoveTo(std::vector<prometheus::MetricFamily>* families);

 private:
  prometheus::ClientMetric& AddSeries(std::initializer_list<std::string> labels);

  const MetricDefinition& definition_;
  prometheus::MetricFamily family_;
};

// A family of one series without labels.
void AddSingle(MetricId id, double value, std::vector<prometheus::MetricFamily>* families);

}  // namespace moed
