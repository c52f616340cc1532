// Everything the daemon counts, as Prometheus text. prometheus-cpp's headers stay behind it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "runtime/schedule/request.h"
#include "server/observe/request_observer.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

// Must outlive the metrics.
struct MetricSources {
  const ServingState* state = nullptr;
  const Lifecycle* lifecycle = nullptr;
  std::string version;  // moed_build_info
  std::function<TimePoint()> now = std::chrono::steady_clock::now;
};

// Thread-safe. Requests are counted as they are observed, on the front ends' and the output thread;
// everything else is read from the engine when a page is asked for.
class Metrics final : public RequestObserver {
 public:
  explicit Metrics(const MetricSources& sources);
  ~Metrics() override;

  void OnAdmitted() override;
  void OnFirstToken(std::chrono::duration<double> since_submit) override;
  void OnInterToken(std::chrono::duration<double> each, int32_t tokens) override;
  void OnTokens(int32_t tokens) override;
  void OnEnd(const RequestRecord& record) override;

  // What happened to the daemon itself: `what` is "keys" or "certificates".
  void OnReload(absl::string_view what, bool succeeded);
  void OnConnectionWaits();  // as GrpcServerParts::on_connection_waits has it
  void SetCertificateExpiry(double unix_seconds);

  // text/plain; version=0.0.4. O(series); a page for gateways, and one with a series for each layer
  // and expert.
  std::string Page();
  std::string ExpertsPage();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moed
