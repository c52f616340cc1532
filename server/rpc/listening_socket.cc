#include "server/rpc/listening_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// How often a free port is looked for that all of a name's addresses have.
constexpr int kPortAttempts = 16;

absl::Status CannotListen(const std::string& address, absl::string_view why) {
  return absl::ResourceExhaustedError(absl::StrCat("cannot listen on ", address, ": ", why));
}

absl::StatusOr<Addresses> Resolve(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return CannotListen(address, "it is not HOST:PORT");
  absl::string_view host = absl::string_view(address).substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(std::string(host).c_str(), address.substr(colon + 1).c_str(), &hints, &found);
  if (error != 0) return CannotListen(address, gai_strerror(error));
  return Addresses(found, freeaddrinfo);
}

void SetPort(sockaddr* address, int port) {
  if (address->sa_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(address)->sin6_port = htons(static_cast<uint16_t>(port));
  } else {
    reinterpret_cast<sockaddr_in*>(address)->sin_port = htons(static_cast<uint16_t>(port));
  }
}

int GetPort(const FileDescriptor& socket) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

// Not open, with errno set, where it cannot be.
FileDescriptor Bind(const addrinfo& address) {
  FileDescriptor fd(
      socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd.is_open()) return fd;
  const auto set = [&](int level, int option, int value) {
    return setsockopt(fd.get(), level, option, &value, sizeof(value)) == 0;
  };
  bool ok = set(SOL_SOCKET, SO_REUSEADDR, 1) && set(IPPROTO_TCP, TCP_NODELAY, 1);
  if (address.ai_family == AF_INET6) {
    const auto* ipv6 = reinterpret_cast<const sockaddr_in6*>(address.ai_addr);
    ok = ok && set(IPPROTO_IPV6, IPV6_V6ONLY, IN6_IS_ADDR_UNSPECIFIED(&ipv6->sin6_addr) ? 0 : 1);
  }
  ok = ok && bind(fd.get(), address.ai_addr, address.ai_addrlen) == 0 &&
       listen(fd.get(), SOMAXCONN) == 0;
  if (ok) return fd;
  const int error = errno;
  fd.Close();
  errno = error;
  return fd;
}

// Every address of the list with one port; `*error` says why not.
ListeningSockets BindAll(const addrinfo* addresses, int* error) {
  ListeningSockets result;
  *error = EADDRNOTAVAIL;
  for (const addrinfo* address = addresses; address != nullptr; address = address->ai_next) {
    if (!result.sockets.empty()) SetPort(address->ai_addr, result.port);
    FileDescriptor socket = Bind(*address);
    if (!socket.is_open()) {
      *error = errno;
      // A name may stand for addresses of a family that this machine does not have.
      if (*error == EADDRNOTAVAIL || *error == EAFNOSUPPORT) continue;
      return {};
    }
    if (result.sockets.empty()) result.port = GetPort(socket);
    result.sockets.push_back(std::move(socket));
  }
  return result;
}

}  // namespace

absl::StatusOr<ListeningSockets> ListenOn(const std::string& address) {
  MOED_ASSIGN_OR_RETURN(const Addresses addresses, Resolve(address));
  const bool any_port = absl::EndsWith(address, ":0");
  int error = 0;
  for (int attempt = 0; attempt < (any_port ? kPortAttempts : 1); ++attempt) {
    if (any_port) {
      for (addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) SetPort(a->ai_addr, 0);
    }
    ListeningSockets sockets = BindAll(addresses.get(), &error);
    if (!sockets.sockets.empty()) return sockets;
  }
  return CannotListen(address, error == EADDRINUSE ? "the port is taken" : std::strerror(error));
}

}  // namespace moed
