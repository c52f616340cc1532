// The admin port: probes, metrics, and the page that draws ranks, requests and expert load.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <utility>

#include "server/http/http_message.h"
#include "server/http/http_server.h"
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

// Routes:
//   /livez         200 while the engine's turn and the acceptor go on, whatever the load; else 503
//   /readyz        200 in phase ready and without a fault; else 503, and the body says why
//   /startupz      JSON {phase, percent, ranks: [{rank, phase, percent}]}; 503 until it has loaded
//   /metrics, /metrics/experts
//   /              the page, with /app.js and /app.css
//   /api/status    JSON, what the page draws: MakeStatus. ?window=SECONDS of the expert load, 1 to
//                  3600, default 60, or "all": since the start; 400 for others
// The first three need no key. The others are for Access::kMonitor where the server has keys, and
// for everybody who reaches the port where it has none. 404 for other paths, 405 for methods but
// GET and HEAD, 401 with WWW-Authenticate and 403 as the authenticator says.
class AdminPages {
 public:
  explicit AdminPages(AdminPageSources sources)
      : sources_(std::move(sources)), started_at_(std::chrono::steady_clock::now()) {}

  HttpResponse Handle(const HttpRequest& request) const;

 private:
  HttpResponse Livez() const;
  HttpResponse Readyz() const;
  HttpResponse Startupz() const;
  HttpResponse Status(const HttpRequest& request) const;

  const AdminPageSources sources_;
  const std::chrono::steady_clock::time_point started_at_;
};

}  // namespace moed
