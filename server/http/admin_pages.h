// The admin port: probes, metrics, and the page that draws ranks, requests and expert load.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "server/http/http_server.h"
#include "server/observe/request_observer.h"
#include "server/security/authenticator.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

// Everything must outlive the pages. Thread-safe.
struct AdminPageSources {
  const ServingState* state = nullptr;
  const Lifecycle* lifecycle = nullptr;
  const Authenticator* authenticator = nullptr;
  std::function<std::string()> metrics;         // Prometheus text
  std::function<std::string()> expert_metrics;  // Prometheus text
  // How long the gRPC accept loop has not come round; /livez wants it under max_silence.
  std::function<std::chrono::milliseconds()> acceptor_silence;
  std::chrono::milliseconds max_silence{10'000};
  // How long one turn of the engine may take before it counts as hung.
  std::chrono::milliseconds max_turn{60'000};
};

class AdminPages {
 public:
  explicit AdminPages(AdminPageSources sources) : sources_(std::move(sources)) {}

  // Routes: /livez /readyz /startupz (no key needed), /metrics /metrics/experts / /app.js
  // /api/status (Access::kMonitor). 404 for others, 405 for methods but GET and HEAD, 401 with
  // WWW-Authenticate and 403 as the authenticator says.
  HttpResponse Handle(const HttpRequest& request) const;

 private:
  const AdminPageSources sources_;
};

}  // namespace moed
