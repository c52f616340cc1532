// What the operating system knows of this process.
#pragma once

#include <prometheus/collectable.h>

#include <optional>
#include <vector>

namespace moed {

// Thread-safe. Reads /proc/self; what cannot be read is left out.
class ProcessCollector final : public prometheus::Collectable {
 public:
  ProcessCollector();

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::optional<double> start_unix_seconds_;
};

}  // namespace moed
