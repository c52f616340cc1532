// Addresses as sockets that listen.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/rpc/file_descriptor.h"

namespace moed {

struct ListeningSockets {
  std::vector<FileDescriptor> sockets;  // one for each address that a host's name stands for
  int port = 0;                         // of all of them
};

// Listens on "host:port": an IPv4 address, an IPv6 address in brackets or a name; port 0 takes a
// free one. "[::]" takes IPv4 too. No other process can listen on the same port. The sockets do not
// block and are not inherited; what is accepted from them sends without delay.
//
// RESOURCE_EXHAUSTED, with the address and why; may block to look up a name.
absl::StatusOr<ListeningSockets> ListenOn(const std::string& address);

}  // namespace moed
