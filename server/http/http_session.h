// A connection of the HTTP server: reads, answers, and ends when it takes too long.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <memory>

#include "server/http/connection_room.h"
#include "server/http/http_message.h"
#include "server/http/request_reader.h"

namespace moed {

// Shared by the connections of a server, and outlives them.
struct HttpSessionOptions {
  HttpLimits limits;
  std::chrono::milliseconds request_timeout{};  // for a whole request, and for TLS's handshake
  std::chrono::milliseconds idle_timeout{};
  std::chrono::milliseconds write_timeout{};
  HttpHandler handler;
};

// Serves the connection until it ends; then leaves `room`, in which it has a place. The socket's
// executor is a strand. `tls` null: without.
void StartHttpSession(boost::asio::ip::tcp::socket socket,
                      std::shared_ptr<boost::asio::ssl::context> tls,
                      const HttpSessionOptions* options, ConnectionRoom* room);

}  // namespace moed
