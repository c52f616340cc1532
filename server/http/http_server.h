// A small HTTP/1.1 server for pages and probes. Boost's headers stay behind it.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/http/http_message.h"
#include "server/security/certificate_store.h"

namespace moed {

struct HttpServerOptions {
  std::vector<std::string> listen;  // "host:port", port 0 for any; at least one
  int num_threads = 1;
  std::shared_ptr<CertificateStore> certificates;   // null: no TLS
  size_t max_header_bytes = 16 << 10;               // more: 431
  size_t max_body_bytes = 1 << 20;                  // more: 413
  int max_connections = 256;                        // more wait to be accepted
  std::chrono::milliseconds header_timeout{5'000};  // for a whole request; then 408
  std::chrono::milliseconds idle_timeout{60'000};   // between requests
  std::chrono::milliseconds write_timeout{10'000};  // for a whole answer
};

// Connections are kept alive and requests on them answered one after another, in order. Where
// max_connections are open, those between two requests give way to new ones. Refused: every
// Transfer-Encoding but "chunked", a request whose length is said twice, chunks that are mostly
// framing.
class HttpServer {
 public:
  // RESOURCE_EXHAUSTED names the address that cannot be listened on; INVALID_ARGUMENT one that is
  // none, or certificates that cannot be used.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           HttpHandler handler);
  // As Shutdown.
  ~HttpServer();

  const std::vector<int>& ports() const;  // in the order of the options
  // Closes listeners and connections and joins the threads. Not from a handler. Calls after the
  // first do nothing.
  void Shutdown();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace moed
