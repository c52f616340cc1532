// A small HTTP/1.1 server for pages and probes. Boost's headers stay behind it.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/security/certificate_store.h"

namespace moed {

struct HttpRequest {
  std::string method;        // "GET", "HEAD", "POST"
  std::string path;          // decoded, without the query: "/metrics"
  std::string query;         // undecoded, without "?"
  std::string peer_address;  // without the port
  std::optional<std::string> authorization;
  std::string accept;
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // besides the usual
};

// Called on the server's threads, several at a time. Must not block for long.
using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

struct HttpServerOptions {
  std::vector<std::string> listen;  // "host:port", port 0 for any; at least one
  int num_threads = 1;
  std::shared_ptr<CertificateStore> certificates;   // null: no TLS
  size_t max_header_bytes = 16 << 10;               // more: 431
  size_t max_body_bytes = 1 << 20;                  // more: 413
  int max_connections = 256;                        // more wait to be accepted
  std::chrono::milliseconds header_timeout{5'000};  // for a whole request; then 408
  std::chrono::milliseconds idle_timeout{60'000};   // between requests
  std::chrono::milliseconds write_timeout{10'000};
};

class HttpServer {
 public:
  // RESOURCE_EXHAUSTED names the address that cannot be listened on.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           HttpHandler handler);
  // As Shutdown.
  ~HttpServer();

  const std::vector<int>& ports() const;  // in the order of the options
  // Closes listeners and connections and joins the threads.
  void Shutdown();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace moed
