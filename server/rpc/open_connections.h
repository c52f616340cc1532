// How many of the connections that were handed on are open.
#pragma once

#include <sys/types.h>

#include "absl/container/flat_hash_map.h"

namespace moed {

// gRPC does not say when it has closed a connection. But a descriptor stands for the same socket
// until it is closed, and no two sockets that are open have the same inode: so a look at each
// descriptor tells. One thread at a time.
class OpenConnections {
 public:
  // A connection that has just been accepted.
  void Add(int fd);

  // No fewer than are open: those that were when last counted, and those added since.
  int at_most() const { return static_cast<int>(open_.size()); }
  // Looks at every one: O(connections).
  int Count();

 private:
  struct Identity {
    dev_t device = 0;
    ino_t inode = 0;
  };

  absl::flat_hash_map<int, Identity> open_;  // by descriptor
};

}  // namespace moed
