// SIGTERM, SIGINT and SIGHUP as calls on a thread, where ordinary code may run.
#pragma once

#include <functional>
#include <thread>

namespace moed {

// Make one before any other thread: it blocks the three signals, and threads inherit that. SIGPIPE
// is ignored. Destruction stops the watching; the signals stay blocked.
class SignalWatcher {
 public:
  // Called with the signal's number, on the watcher's thread.
  explicit SignalWatcher(std::function<void(int)> on_signal);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  void Watch();

  const std::function<void(int)> on_signal_;
  int signal_fd_ = -1;
  int stop_fd_ = -1;
  std::thread thread_;
};

}  // namespace moed
