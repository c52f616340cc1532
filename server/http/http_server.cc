#include "server/http/http_server.h"

#include <boost/asio/io_context.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "server/http/connection_room.h"
#include "server/http/http_listener.h"
#include "server/http/http_session.h"
#include "server/http/tls_contexts.h"

namespace moed {

namespace asio = boost::asio;

struct HttpServer::Impl {
  explicit Impl(const HttpServerOptions& options) : room(options.max_connections) {}

  HttpSessionOptions session_options;
  ConnectionRoom room;
  std::shared_ptr<TlsContexts> tls;
  std::vector<int> ports;
  // Its destruction ends the connections, which refer to what is above.
  std::optional<asio::io_context> context{std::in_place};
  std::vector<std::unique_ptr<HttpListener>> listeners;
  std::vector<std::thread> threads;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { Shutdown(); }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              HttpHandler handler) {
  MOED_CHECK(!options.listen.empty() && options.num_threads > 0 && options.max_connections > 0,
             "a server has an address, a thread and a connection");
  auto impl = std::make_unique<Impl>(options);
  impl->session_options = {
      .limits = {.header_bytes = options.max_header_bytes, .body_bytes = options.max_body_bytes},
      .request_timeout = options.header_timeout,
      .idle_timeout = options.idle_timeout,
      .write_timeout = options.write_timeout,
      .handler = std::move(handler)};
  if (options.certificates != nullptr) {
    MOED_ASSIGN_OR_RETURN(impl->tls, TlsContexts::Follow(options.certificates.get()));
  }
  for (const std::string& address : options.listen) {
    auto listener = std::make_unique<HttpListener>(
        &*impl->context, &impl->room, [impl = impl.get()](asio::ip::tcp::socket socket) {
          StartHttpSession(std::move(socket), impl->tls == nullptr ? nullptr : impl->tls->current(),
                           &impl->session_options, &impl->room);
        });
    MOED_RETURN_IF_ERROR(listener->Listen(address));
    impl->ports.push_back(listener->port());
    impl->listeners.push_back(std::move(listener));
  }
  for (const auto& listener : impl->listeners) listener->Start();
  for (int i = 0; i < options.num_threads; ++i) {
    impl->threads.emplace_back([context = &*impl->context] { context->run(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

const std::vector<int>& HttpServer::ports() const { return impl_->ports; }

void HttpServer::Shutdown() {
  if (!impl_->context.has_value()) return;
  impl_->room.Close();
  impl_->context->stop();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
  impl_->listeners.clear();
  impl_->context.reset();
}

}  // namespace moed
