// What the operating system knows of this process.
#pragma once

#include <prometheus/collectable.h>

#include <vector>

namespace moed {

// Thread-safe. Reads /proc/self; what cannot be read is left out.
class ProcessCollector final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace moed
