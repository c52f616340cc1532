#include "server/app/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace moed {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// One assignment a line is the protocol.
std::string OneLine(absl::string_view text) { return absl::StrReplaceAll(text, {{"\n", " "}}); }

// The clock that systemd compares RELOADING=1 with.
int64_t MonotonicMicroseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

}  // namespace

ServiceManagerSettings ServiceManagerSettings::FromEnvironment() {
  ServiceManagerSettings settings;
  settings.notify_socket = Variable("NOTIFY_SOCKET");
  int64_t microseconds = 0;
  int64_t pid = 0;
  const std::string watchdog_pid = Variable("WATCHDOG_PID");
  const bool ours =
      watchdog_pid.empty() || (absl::SimpleAtoi(watchdog_pid, &pid) && pid == int64_t{getpid()});
  if (ours && absl::SimpleAtoi(Variable("WATCHDOG_USEC"), &microseconds) && microseconds > 0) {
    settings.watchdog = std::chrono::microseconds(microseconds);
  }
  return settings;
}

ServiceManager::~ServiceManager() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (watchdog_.joinable()) watchdog_.join();
}

absl::Status ServiceManager::Ready(absl::string_view status) {
  return Send(absl::StrCat("READY=1\nSTATUS=", OneLine(status)));
}

absl::Status ServiceManager::SetStatus(absl::string_view status) {
  return Send(absl::StrCat("STATUS=", OneLine(status)));
}

absl::Status ServiceManager::Reloading() {
  return Send(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=", MonotonicMicroseconds()));
}

absl::Status ServiceManager::Stopping(absl::string_view status) {
  return Send(absl::StrCat("STOPPING=1\nSTATUS=", OneLine(status)));
}

void ServiceManager::StartWatchdog(std::function<bool()> alive) {
  if (!settings_.watchdog.has_value() || settings_.notify_socket.empty()) return;
  watchdog_ = std::thread([this, interval = *settings_.watchdog / 2, alive = std::move(alive)] {
    RunWatchdog(interval, alive);
  });
}

void ServiceManager::RunWatchdog(std::chrono::microseconds interval,
                                 const std::function<bool()>& alive) {
  auto next = std::chrono::steady_clock::now();
  while (true) {
    // One that is not sent is followed by the next; two make the service manager act.
    if (alive()) Send("WATCHDOG=1").IgnoreError();
    next += interval;
    MutexLock lock(mutex_);
    while (!stopping_ && std::chrono::steady_clock::now() < next) changed_.WaitUntil(mutex_, next);
    if (stopping_) return;
  }
}

absl::Status ServiceManager::Send(const std::string& message) const {
  const std::string& name = settings_.notify_socket;
  if (name.empty()) return absl::OkStatus();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if ((name.front() != '/' && name.front() != '@') || name.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError("NOTIFY_SOCKET is neither a path nor an abstract name");
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name.front() == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "NOTIFY_SOCKET: no socket");
  const ssize_t sent = sendto(fd, message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                              reinterpret_cast<const sockaddr*>(&address), length);
  const int error = errno;
  close(fd);
  if (sent < 0) return absl::ErrnoToStatus(error, "NOTIFY_SOCKET does not take messages");
  return absl::OkStatus();
}

}  // namespace moed
