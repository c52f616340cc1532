#include "server/metrics/atomic_histogram.h"

#include <algorithm>
#include <cstddef>

namespace moed {

AtomicHistogram::AtomicHistogram(absl::Span<const double> bounds)
    : bounds_(bounds), buckets_(std::make_unique<std::atomic<uint64_t>[]>(bounds.size() + 1)) {}

void AtomicHistogram::Observe(double value, uint64_t times) {
  // A value that equals a bound belongs below it, as Prometheus' "le" has it.
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  buckets_[static_cast<size_t>(bound - bounds_.begin())].fetch_add(times,
                                                                   std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(times), std::memory_order_relaxed);
}

std::vector<uint64_t> AtomicHistogram::Buckets() const {
  std::vector<uint64_t> counts(bounds_.size() + 1);
  for (size_t i = 0; i < counts.size(); ++i) {
    counts[i] = buckets_[i].load(std::memory_order_relaxed);
  }
  return counts;
}

}  // namespace moed
