// Accepts the HTTP server's connections on one address.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/http/connection_room.h"

namespace moed {

// Where no descriptor is free it tries again every tenth of a second. Must live until the context
// has stopped.
class HttpListener {
 public:
  // Takes over a connection, which has entered the room.
  using OnConnection = std::function<void(boost::asio::ip::tcp::socket)>;

  HttpListener(boost::asio::io_context* context, ConnectionRoom* room, OnConnection on_connection);

  // "host:port"; of a name's addresses the first that can be listened on, IPv4 before IPv6.
  // RESOURCE_EXHAUSTED names the address; INVALID_ARGUMENT where it is none.
  absl::Status Listen(absl::string_view address);
  int port() const { return port_; }

  // Once, after Listen.
  void Start();

 private:
  void Accept();
  void AcceptLater();
  void OnAccept(const boost::system::error_code& error, boost::asio::ip::tcp::socket socket);

  boost::asio::io_context* const context_;
  ConnectionRoom* const room_;
  const OnConnection on_connection_;
  boost::asio::ip::tcp::acceptor acceptor_;  // on a strand, as the timer
  boost::asio::steady_timer retry_;
  int port_ = 0;
};

}  // namespace moed
