#include "server/app/signal_watcher.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <utility>

#include "kernels/core/check.h"

namespace moed {

SignalWatcher::SignalWatcher(std::function<void(int)> on_signal)
    : on_signal_(std::move(on_signal)) {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t watched;
  sigemptyset(&watched);
  sigaddset(&watched, SIGTERM);
  sigaddset(&watched, SIGINT);
  sigaddset(&watched, SIGHUP);
  MOED_CHECK(pthread_sigmask(SIG_BLOCK, &watched, nullptr) == 0, "signals cannot be blocked");
  signal_fd_ = signalfd(-1, &watched, SFD_CLOEXEC);
  stop_fd_ = eventfd(0, EFD_CLOEXEC);
  MOED_CHECK(signal_fd_ >= 0 && stop_fd_ >= 0, "no file descriptor for signals");
  thread_ = std::thread([this] { Watch(); });
}

SignalWatcher::~SignalWatcher() {
  const uint64_t one = 1;
  MOED_CHECK(write(stop_fd_, &one, sizeof(one)) == sizeof(one), "an event cannot be written");
  thread_.join();
  close(signal_fd_);
  close(stop_fd_);
}

void SignalWatcher::Watch() {
  pollfd waited[2] = {{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  while (true) {
    if (poll(waited, 2, -1) < 0) {
      MOED_CHECK(errno == EINTR, "waiting for signals failed");
      continue;
    }
    if (waited[1].revents != 0) return;
    signalfd_siginfo info;
    if (waited[0].revents != 0 && read(signal_fd_, &info, sizeof(info)) == sizeof(info)) {
      on_signal_(static_cast<int>(info.ssi_signo));
    }
  }
}

}  // namespace moed
