// A histogram that costs the one who observes next to nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"

namespace moed {

// Thread-safe, without a lock: tokens are observed on the output thread, some hundred thousand a
// second. A reading that is taken meanwhile may have an observation in a bucket and not yet in the
// sum.
class AtomicHistogram {
 public:
  // bounds: ascending upper bounds, which must outlive it.
  explicit AtomicHistogram(absl::Span<const double> bounds);

  // `times` observations of `value`.
  void Observe(double value, uint64_t times = 1);

  absl::Span<const double> bounds() const { return bounds_; }
  std::vector<uint64_t> Buckets() const;  // [bounds + 1], not cumulative
  double Sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  const absl::Span<const double> bounds_;
  const std::unique_ptr<std::atomic<uint64_t>[]> buckets_;  // [bounds + 1]
  std::atomic<double> sum_ = 0;
};

}  // namespace moed
