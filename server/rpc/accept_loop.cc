#include "server/rpc/accept_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "server/rpc/file_descriptor.h"
#include "server/rpc/listening_socket.h"
#include "server/rpc/open_connections.h"

namespace moed {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kRound{500};
// While there is no room, from one look to the next.
constexpr milliseconds kFirstWait{10};
constexpr milliseconds kLongestWait{250};
// Of one listener before the others have their turn.
constexpr int kAcceptedAtOnce = 64;

int64_t NowMilliseconds() {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

// Whether a connection may have the next free descriptor. `any` is one that is open.
bool HasFreeDescriptor(const FileDescriptor& any) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
  // The kernel gives the lowest that is free, which is what accept would get.
  const FileDescriptor lowest(fcntl(any.get(), F_DUPFD_CLOEXEC, 0));
  if (!lowest.is_open()) return false;
  const rlim_t reserved = std::min<rlim_t>(limit.rlim_cur / 8, AcceptLoop::kReservedDescriptors);
  return static_cast<rlim_t>(lowest.get()) < limit.rlim_cur - reserved;
}

// What the listener's last connection brought along, or there is none: nothing that lasts.
bool IsPassing(int error) {
  switch (error) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
      return false;
    default:
      return true;
  }
}

}  // namespace

struct AcceptLoop::Impl {
  void Loop();
  // Accepts what waits on the listener; false where there is no room for it.
  bool Accept(const FileDescriptor& listener);
  bool HasRoom();
  void WaitForRoom();
  void Poll(bool with_listeners, milliseconds timeout);

  AcceptLoopOptions options;
  Hooks hooks;
  std::vector<int> ports;
  std::vector<FileDescriptor> listeners;
  FileDescriptor wake;  // an eventfd
  std::thread thread;
  std::atomic<bool> stopping = false;
  std::atomic<int64_t> last_round_ms = 0;

  // The thread's own.
  std::vector<pollfd> polled;  // wake, then the listeners
  OpenConnections connections;
  milliseconds wait{0};  // 0: there was room
};

void AcceptLoop::Impl::Loop() {
  while (!stopping) {
    Poll(/*with_listeners=*/true, kRound);
    for (size_t i = 0; i < listeners.size() && !stopping; ++i) {
      if ((polled[i + 1].revents & POLLIN) == 0) continue;
      if (!Accept(listeners[i])) {
        WaitForRoom();
        break;
      }
      wait = milliseconds(0);
    }
  }
}

bool AcceptLoop::Impl::Accept(const FileDescriptor& listener) {
  for (int i = 0; i < kAcceptedAtOnce && !stopping; ++i) {
    if (!HasRoom()) return i > 0;  // whether another one waits is the next round's to see
    const int fd = accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
      if (!IsPassing(errno)) return false;
      continue;
    }
    connections.Add(fd);
    hooks.on_connection(listener.get(), fd);
  }
  return true;
}

bool AcceptLoop::Impl::HasRoom() {
  const int limit = options.max_connections;
  if (limit > 0 && connections.at_most() >= limit && connections.Count() >= limit) return false;
  return HasFreeDescriptor(wake);
}

void AcceptLoop::Impl::WaitForRoom() {
  if (wait.count() == 0 && hooks.on_waiting != nullptr) hooks.on_waiting();
  wait = std::clamp(wait * 2, kFirstWait, kLongestWait);
  Poll(/*with_listeners=*/false, wait);
}

void AcceptLoop::Impl::Poll(bool with_listeners, milliseconds timeout) {
  last_round_ms = NowMilliseconds();
  for (pollfd& entry : polled) entry.revents = 0;
  const nfds_t count = with_listeners ? polled.size() : 1;
  const int ready = poll(polled.data(), count, static_cast<int>(timeout.count()));
  // Too little memory: nothing is known, and asking again at once would not help.
  if (ready < 0 && errno != EINTR) std::this_thread::sleep_for(kFirstWait);
}

absl::StatusOr<std::unique_ptr<AcceptLoop>> AcceptLoop::Listen(AcceptLoopOptions options) {
  auto impl = std::make_unique<Impl>();
  impl->wake = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->wake.is_open()) {
    return absl::ResourceExhaustedError("cannot listen: no file descriptor is free");
  }
  impl->polled.push_back({.fd = impl->wake.get(), .events = POLLIN, .revents = 0});
  for (const std::string& address : options.listen) {
    MOED_ASSIGN_OR_RETURN(ListeningSockets sockets, ListenOn(address));
    impl->ports.push_back(sockets.port);
    for (FileDescriptor& socket : sockets.sockets) {
      impl->polled.push_back({.fd = socket.get(), .events = POLLIN, .revents = 0});
      impl->listeners.push_back(std::move(socket));
    }
  }
  impl->options = std::move(options);
  return std::unique_ptr<AcceptLoop>(new AcceptLoop(std::move(impl)));
}

AcceptLoop::AcceptLoop(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AcceptLoop::~AcceptLoop() { Stop(); }

const std::vector<int>& AcceptLoop::ports() const { return impl_->ports; }

void AcceptLoop::Run(Hooks hooks) {
  MOED_CHECK(!impl_->thread.joinable(), "the loop runs once");
  impl_->hooks = std::move(hooks);
  impl_->last_round_ms = NowMilliseconds();
  impl_->thread = std::thread([impl = impl_.get()] { impl->Loop(); });
}

void AcceptLoop::Stop() {
  impl_->stopping = true;
  eventfd_write(impl_->wake.get(), 1);
  if (impl_->thread.joinable()) impl_->thread.join();
  impl_->listeners.clear();
}

milliseconds AcceptLoop::silence() const {
  if (impl_->stopping || impl_->last_round_ms == 0) return milliseconds(0);
  return milliseconds(NowMilliseconds() - impl_->last_round_ms);
}

}  // namespace moed
