// Accepts connections on a thread of its own and hands them on. gRPC 1.51's own listener dies for
// good when there is no file descriptor left; this one waits until there is.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace moed {

struct AcceptLoopOptions {
  std::vector<std::string> listen;  // "host:port", port 0 for any; at least one
  // Open connections above which new ones wait in the kernel's queue; 0: no limit of ours. Held
  // exactly, see OpenConnections.
  int max_connections = 0;
};

// Never takes the process's last descriptors: an eighth of them, at most kReservedDescriptors, are
// left for the rest of it, so that a flood of connections does not silence probes and metrics.
class AcceptLoop {
 public:
  static constexpr int kReservedDescriptors = 64;

  // Takes over `fd`, accepted on `listener_fd`.
  using Handler = std::function<void(int listener_fd, int fd)>;
  struct Hooks {
    Handler on_connection;
    // May be null: a connection waits, as there are max_connections or no descriptor is free.
    // Once until there is room again.
    std::function<void()> on_waiting;
  };

  // Binds and listens; RESOURCE_EXHAUSTED names the address that cannot be listened on. Nothing is
  // accepted before Run.
  static absl::StatusOr<std::unique_ptr<AcceptLoop>> Listen(AcceptLoopOptions options);
  ~AcceptLoop();  // as Stop

  const std::vector<int>& ports() const;  // in the order of the options

  // Starts the thread, which calls the hooks. A connection that had to wait is accepted within a
  // quarter of a second after there is room.
  void Run(Hooks hooks);
  // Closes the listeners and joins the thread. Connections handed on stay.
  void Stop();

  // Since the loop last came round; it does twice a second. 0 where it does not run. Thread-safe.
  std::chrono::milliseconds silence() const;

 private:
  struct Impl;
  explicit AcceptLoop(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace moed
