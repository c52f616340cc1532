// Tells systemd, or whatever set NOTIFY_SOCKET, how the daemon is.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"

namespace moed {

// What the service manager left in the environment.
struct ServiceManagerSettings {
  std::string notify_socket;  // a path, or "@name" in the abstract namespace; empty: nobody listens
  std::optional<std::chrono::microseconds> watchdog;  // silence after which we are killed

  // NOTIFY_SOCKET, WATCHDOG_USEC, and WATCHDOG_PID, which must be ours or missing.
  static ServiceManagerSettings FromEnvironment();
};

// Thread-safe. Without a socket every call does nothing. Nothing blocks; a message that cannot be
// sent is an error to log, not to act on.
class ServiceManager {
 public:
  explicit ServiceManager(ServiceManagerSettings settings) : settings_(std::move(settings)) {}
  // Ends the watchdog's thread.
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  // The model is loaded and served; `status` is what systemctl status shows.
  absl::Status Ready(absl::string_view status);
  absl::Status SetStatus(absl::string_view status);
  // Before keys, certificates and log level are read again; Ready follows.
  absl::Status Reloading();
  // The drain has begun.
  absl::Status Stopping(absl::string_view status);

  // Sends WATCHDOG=1 at half the interval for as long as `alive` says so; does nothing where no
  // watchdog was asked for. `alive` is called on a thread of this object. At most once.
  void StartWatchdog(std::function<bool()> alive);

 private:
  absl::Status Send(const std::string& message) const;
  void RunWatchdog(std::chrono::microseconds interval, const std::function<bool()>& alive);

  const ServiceManagerSettings settings_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watchdog_;
};

}  // namespace moed
