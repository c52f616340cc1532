#include "server/metrics/family_builder.h"

#include <limits>
#include <utility>

#include "kernels/core/check.h"

namespace moed {
namespace {

prometheus::MetricType TypeOf(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

}  // namespace

FamilyBuilder::FamilyBuilder(MetricId id, size_t num_series) : definition_(Definition(id)) {
  family_.name = definition_.name;
  family_.help = definition_.help;
  family_.type = TypeOf(definition_.type);
  family_.metric.reserve(num_series);
}

prometheus::ClientMetric& FamilyBuilder::AddSeries(std::initializer_list<std::string> labels) {
  MOED_CHECK(static_cast<int>(labels.size()) == definition_.num_labels(),
             "a series has labels that the catalog does not have");
  prometheus::ClientMetric& series = family_.metric.emplace_back();
  series.label.reserve(labels.size());
  size_t index = 0;
  for (const std::string& value : labels) {
    series.label.push_back({definition_.labels[index++], value});
  }
  return series;
}

void FamilyBuilder::Add(std::initializer_list<std::string> labels, double value) {
  prometheus::ClientMetric& series = AddSeries(labels);
  if (definition_.type == MetricType::kCounter) {
    series.counter.value = value;
  } else {
    series.gauge.value = value;
  }
}

void FamilyBuilder::AddHistogram(std::initializer_list<std::string> labels,
                                 absl::Span<const double> bounds,
                                 absl::Span<const uint64_t> buckets, double sum) {
  MOED_CHECK(buckets.size() == bounds.size() + 1, "a histogram does not fit its bounds");
  prometheus::ClientMetric::Histogram& histogram = AddSeries(labels).histogram;
  histogram.bucket.reserve(buckets.size());
  for (size_t i = 0; i < buckets.size(); ++i) {
    histogram.sample_count += buckets[i];
    const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
    histogram.bucket.push_back({histogram.sample_count, bound});
  }
  histogram.sample_sum = sum;
}

void FamilyBuilder::MoveTo(std::vector<prometheus::MetricFamily>* families) {
  if (!family_.metric.empty()) families->push_back(std::move(family_));
}

void AddSingle(MetricId id, double value, std::vector<prometheus::MetricFamily>* families) {
  FamilyBuilder family(id);
  family.Add(value);
  family.MoveTo(families);
}

}  // namespace moed
