#include "server/http/admin_pages.h"

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "runtime/engine/routing_ledger.h"
#include "server/http/page_files.h"
#include "server/http/response_text.h"
#include "server/http/status_json.h"

namespace moed {
namespace {

constexpr char kPrometheusText[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kJson[] = "application/json; charset=utf-8";
constexpr std::chrono::seconds kDefaultWindow{60};
// The page's own files and nothing else; in no other page's frame.
constexpr char kPagePolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

HttpResponse Text(int status, absl::string_view text) {
  HttpResponse response;
  response.status = status;
  response.body = absl::StrCat(text, "\n");
  return response;
}

HttpResponse Body(const char* content_type, std::string body) {
  HttpResponse response;
  response.content_type = content_type;
  response.body = std::move(body);
  return response;
}

HttpResponse PageFile(const char* content_type, absl::string_view text) {
  HttpResponse response = Body(content_type, std::string(text));
  response.headers.emplace_back("Content-Security-Policy", kPagePolicy);
  response.headers.emplace_back("Referrer-Policy", "no-referrer");
  return response;
}

HttpResponse MethodNotAllowed() {
  HttpResponse response = ErrorResponse(405);
  response.headers.emplace_back("Allow", "GET, HEAD");
  return response;
}

HttpResponse Refused(const absl::Status& status) {
  HttpResponse response = Text(absl::IsUnauthenticated(status) ? 401 : 403, status.message());
  if (response.status == 401) {
    response.headers.emplace_back("WWW-Authenticate", "Basic realm=\"moed\"");
    response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"moed\"");
  }
  return response;
}

// The window of "window=60&...". False: not one.
bool ParseWindow(absl::string_view query, std::optional<std::chrono::seconds>* window) {
  *window = kDefaultWindow;
  for (const absl::string_view parameter : absl::StrSplit(query, '&', absl::SkipEmpty())) {
    if (!absl::StartsWith(parameter, "window=")) continue;
    const absl::string_view value = parameter.substr(sizeof("window=") - 1);
    int64_t seconds = 0;
    if (value == "all") {
      window->reset();
    } else if (absl::SimpleAtoi(value, &seconds) && seconds >= 1 &&
               seconds <= RoutingLedger::kMaxWindow.count()) {
      *window = std::chrono::seconds(seconds);
    } else {
      return false;
    }
  }
  return true;
}

bool HasLoaded(LifecyclePhase phase) {
  return phase == LifecyclePhase::kReady || phase == LifecyclePhase::kDraining;
}

}  // namespace

HttpResponse AdminPages::Handle(const HttpRequest& request) const {
  using Route = HttpResponse (*)(const AdminPages&, const HttpRequest&);
  struct Entry {
    absl::string_view path;
    bool needs_key;
    Route route;
  };
  static constexpr Entry kRoutes[] = {
      {"/livez", false, [](const AdminPages& pages, const HttpRequest&) { return pages.Livez(); }},
      {"/readyz", false,
       [](const AdminPages& pages, const HttpRequest&) { return pages.Readyz(); }},
      {"/startupz", false,
       [](const AdminPages& pages, const HttpRequest&) { return pages.Startupz(); }},
      {"/metrics", true,
       [](const AdminPages& pages, const HttpRequest&) {
         return Body(kPrometheusText, pages.sources_.metrics());
       }},
      {"/metrics/experts", true,
       [](const AdminPages& pages, const HttpRequest&) {
         return Body(kPrometheusText, pages.sources_.expert_metrics());
       }},
      {"/", true,
       [](const AdminPages&, const HttpRequest&) {
         return PageFile("text/html; charset=utf-8", kPageHtml);
       }},
      {"/app.js", true,
       [](const AdminPages&, const HttpRequest&) {
         return PageFile("text/javascript; charset=utf-8", kPageScript);
       }},
      {"/app.css", true,
       [](const AdminPages&, const HttpRequest&) {
         return PageFile("text/css; charset=utf-8", kPageStyle);
       }},
      {"/api/status", true,
       [](const AdminPages& pages, const HttpRequest& status) { return pages.Status(status); }},
  };
  for (const Entry& entry : kRoutes) {
    if (entry.path != request.path) continue;
    if (request.method != "GET" && request.method != "HEAD") return MethodNotAllowed();
    if (entry.needs_key && sources_.authenticator->has_keys()) {
      const auto caller = sources_.authenticator->Authenticate(
          request.authorization, request.peer_address, Access::kMonitor);
      if (!caller.ok()) return Refused(caller.status());
    }
    return entry.route(*this, request);
  }
  return ErrorResponse(404);
}

HttpResponse AdminPages::Livez() const {
  if (sources_.acceptor_silence && sources_.acceptor_silence() > sources_.max_silence) {
    return Text(503, "connections are not accepted any more");
  }
  const absl::StatusOr<Serving> serving = sources_.state->Get();
  if (serving.ok() && serving->engine->Stats().turn_age > sources_.max_turn) {
    return Text(503, "the engine hangs");
  }
  return Text(200, "live");
}

HttpResponse AdminPages::Readyz() const {
  const LifecycleSnapshot lifecycle = sources_.lifecycle->Snapshot();
  if (lifecycle.phase == LifecyclePhase::kLoading) {
    return Text(503,
                absl::StrCat("loading: ", static_cast<int>(lifecycle.load_fraction * 100), " %"));
  }
  if (lifecycle.phase != LifecyclePhase::kReady) {
    return Text(503, LifecyclePhaseName(lifecycle.phase));
  }
  const absl::StatusOr<Serving> serving = sources_.state->Get();
  if (!serving.ok()) return Text(503, "no model is served");
  if (!serving->engine->Stats().fault.ok()) return Text(503, "a rank has failed");
  return Text(200, "ready");
}

HttpResponse AdminPages::Startupz() const {
  const LifecycleSnapshot lifecycle = sources_.lifecycle->Snapshot();
  HttpResponse response = Body(kJson, MakeStartup(lifecycle));
  response.status = HasLoaded(lifecycle.phase) ? 200 : 503;
  return response;
}

HttpResponse AdminPages::Status(const HttpRequest& request) const {
  StatusRequest status;
  if (!ParseWindow(request.query, &status.window)) {
    return Text(400, "window: a number of seconds from 1 to 3600, or 'all'");
  }
  status.uptime = std::chrono::steady_clock::now() - started_at_;
  const absl::StatusOr<Serving> serving = sources_.state->Get();
  return Body(kJson, MakeStatus(sources_.lifecycle->Snapshot(), serving.ok() ? &*serving : nullptr,
                                status));
}

}  // namespace moed
