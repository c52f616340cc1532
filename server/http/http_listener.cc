#include "server/http/http_listener.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::milliseconds kRetryInterval{100};

// Host and port of "host:port"; an IPv6 address is in brackets.
absl::Status Split(absl::string_view address, std::string* host, uint16_t* port) {
  const size_t colon = address.rfind(':');
  int32_t number = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &number) || number < 0 || number > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("'", address, "' is not HOST:PORT"));
  }
  absl::string_view name = address.substr(0, colon);
  if (absl::StartsWith(name, "[") && absl::EndsWith(name, "]")) {
    name = name.substr(1, name.size() - 2);
  } else if (absl::StrContains(name, ':')) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", address, "' needs brackets around its IPv6 address"));
  }
  host->assign(name.data(), name.size());
  *port = static_cast<uint16_t>(number);
  return absl::OkStatus();
}

error_code ListenOn(const tcp::endpoint& endpoint, tcp::acceptor* acceptor) {
  error_code error;
  const auto attempt = [&] {
    acceptor->open(endpoint.protocol(), error);
    if (!error) acceptor->set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(tcp::acceptor::max_listen_connections, error);
  };
  attempt();
  error_code ignored;
  if (error) acceptor->close(ignored);
  return error;
}

}  // namespace

HttpListener::HttpListener(asio::io_context* context, ConnectionRoom* room,
                           OnConnection on_connection)
    : context_(context),
      room_(room),
      on_connection_(std::move(on_connection)),
      acceptor_(asio::make_strand(*context)),
      retry_(acceptor_.get_executor()) {}

absl::Status HttpListener::Listen(absl::string_view address) {
  std::string host;
  uint16_t port = 0;
  MOED_RETURN_IF_ERROR(Split(address, &host, &port));
  error_code error;
  tcp::resolver resolver(*context_);
  std::vector<tcp::endpoint> endpoints;
  for (const auto& entry :
       resolver.resolve(host, absl::StrCat(port), tcp::resolver::passive, error)) {
    endpoints.push_back(entry.endpoint());
  }
  std::stable_partition(endpoints.begin(), endpoints.end(),
                        [](const tcp::endpoint& endpoint) { return endpoint.address().is_v4(); });
  for (const tcp::endpoint& endpoint : endpoints) {
    error = ListenOn(endpoint, &acceptor_);
    if (error) continue;
    error_code ignored;
    port_ = acceptor_.local_endpoint(ignored).port();
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot listen on ", address, ": ", error.message()));
}

void HttpListener::Start() {
  asio::post(acceptor_.get_executor(), [this] { Accept(); });
}

void HttpListener::Accept() {
  const auto accept_again = [this] { asio::post(acceptor_.get_executor(), [this] { Accept(); }); };
  if (!room_->HasPlace(accept_again)) return;
  acceptor_.async_accept(
      asio::make_strand(*context_),
      [this](const error_code& error, tcp::socket socket) { OnAccept(error, std::move(socket)); });
}

void HttpListener::OnAccept(const error_code& error, tcp::socket socket) {
  // The client may have gone again before it was accepted.
  if (error && error != asio::error::connection_aborted) return AcceptLater();
  if (!error) {
    room_->Enter();
    on_connection_(std::move(socket));
  }
  Accept();
}

void HttpListener::AcceptLater() {
  retry_.expires_after(kRetryInterval);
  retry_.async_wait([this](const error_code& error) {
    if (!error) Accept();
  });
}

}  // namespace moed
