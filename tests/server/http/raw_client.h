// A client that sends what it is told, byte for byte.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace moed {

struct RawResponse {
  int status = 0;
  std::string header;  // with its status line
  std::string body;
};

class RawClient {
 public:
  static constexpr std::chrono::seconds kPatience{60};

  explicit RawClient(int port) : RawClient() { Connect(port); }
  // Not connected; has its descriptor.
  RawClient() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {}
  ~RawClient() { close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool Connect(int port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }

  // False where the server has gone, or takes nothing for `patience`.
  bool Send(absl::string_view bytes, std::chrono::milliseconds patience = kPatience) {
    while (!bytes.empty()) {
      if (!Wait(POLLOUT, patience)) return false;
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  int fd() const { return fd_; }
  void EndSending() { shutdown(fd_, SHUT_WR); }

  // Nullopt: the connection ended before, or nothing came. `has_body` false: to a HEAD.
  std::optional<RawResponse> Receive(bool has_body = true,
                                     std::chrono::milliseconds patience = kPatience) {
    RawResponse response;
    size_t end = 0;
    while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
      if (!ReceiveMore(patience)) return std::nullopt;
    }
    response.header = received_.substr(0, end + 4);
    received_.erase(0, end + 4);
    response.status = std::atoi(response.header.c_str() + sizeof("HTTP/1.1 ") - 1);
    const size_t length = has_body ? ContentLength(response.header) : 0;
    while (received_.size() < length) {
      if (!ReceiveMore(patience)) return std::nullopt;
    }
    response.body = received_.substr(0, length);
    received_.erase(0, length);
    return response;
  }

  // Whether the server ends the connection and sends nothing before it that is not received yet.
  bool IsClosed(std::chrono::milliseconds patience = kPatience) {
    return received_.empty() && Wait(POLLIN, patience) && !ReceiveMore(patience);
  }

 private:
  static size_t ContentLength(absl::string_view header) {
    const absl::string_view name = "Content-Length: ";
    const size_t at = header.find(name);
    if (at == absl::string_view::npos) return 0;
    size_t length = 0;
    const absl::string_view rest = header.substr(at + name.size());
    return absl::SimpleAtoi(rest.substr(0, rest.find('\r')), &length) ? length : 0;
  }

  bool Wait(short what, std::chrono::milliseconds patience) const {
    pollfd polled = {fd_, what, 0};
    return poll(&polled, 1, static_cast<int>(patience.count())) == 1;
  }

  bool ReceiveMore(std::chrono::milliseconds patience) {
    if (!Wait(POLLIN, patience)) return false;
    char bytes[4096];
    const ssize_t num_bytes = recv(fd_, bytes, sizeof(bytes), 0);
    if (num_bytes <= 0) return false;
    received_.append(bytes, static_cast<size_t>(num_bytes));
    return true;
  }

  const int fd_;
  std::string received_;
};

// A request without a body, of a client that keeps the connection.
inline std::string GetRequest(absl::string_view target, absl::string_view method = "GET") {
  return absl::StrCat(method, " ", target, " HTTP/1.1\r\nHost: moed\r\n\r\n");
}

}  // namespace moed
