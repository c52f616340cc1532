// What happens to the daemon itself: how far it is, what it serves, reloads, connections.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

// Thread-safe.
class DaemonMetrics final : public prometheus::Collectable {
 public:
  DaemonMetrics(const ServingState* state, const Lifecycle* lifecycle, std::string version);

  // As Metrics has them.
  void OnReload(absl::string_view what, bool succeeded);
  void OnConnectionWaits() { ++connection_waits_; }
  void SetCertificateExpiry(double unix_seconds) { certificate_expiry_ = unix_seconds; }

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const ServingState* const state_;
  const Lifecycle* const lifecycle_;
  const std::string version_;
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& reloads_;
  std::atomic<uint64_t> connection_waits_ = 0;
  std::atomic<double> certificate_expiry_ = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace moed
