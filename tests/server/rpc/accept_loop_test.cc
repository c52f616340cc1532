#include "server/rpc/accept_loop.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <ctime>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/check.h"
#include "kernels/core/mutex.h"
#include "server/rpc/file_descriptor.h"

namespace moed {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

constexpr std::chrono::minutes kPatience{1};

bool ConnectTo(const FileDescriptor& fd, int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

FileDescriptor Connect(int port) {
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!ConnectTo(fd, port)) fd.Close();
  return fd;
}

FileDescriptor ConnectIpv6(int port) {
  FileDescriptor fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<uint16_t>(port));
  address.sin6_addr = in6addr_loopback;
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    fd.Close();
  }
  return fd;
}

// A loop that keeps what it accepts.
class Accepting {
 public:
  explicit Accepting(AcceptLoopOptions options) {
    auto loop = AcceptLoop::Listen(std::move(options));
    MOED_CHECK(loop.ok(), "a port is free");
    loop_ = *std::move(loop);
    loop_->Run({.on_connection =
                    [this](int, int fd) {
                      MutexLock lock(mutex_);
                      accepted_.emplace_back(fd);
                      changed_.NotifyAll();
                    },
                .on_waiting =
                    [this] {
                      MutexLock lock(mutex_);
                      ++num_waits_;
                      changed_.NotifyAll();
                    }});
  }

  // Blocks until there are so many that are kept.
  bool WaitForConnections(size_t count) {
    const TimePoint end = steady_clock::now() + kPatience;
    MutexLock lock(mutex_);
    while (accepted_.size() < count) {
      if (!changed_.WaitUntil(mutex_, end)) return false;
    }
    return true;
  }
  // Blocks until there are so many or one waits; false where one does.
  bool AcceptsUpTo(size_t count) {
    MutexLock lock(mutex_);
    while (accepted_.size() < count && num_waits_ == 0) changed_.Wait(mutex_);
    return accepted_.size() >= count;
  }
  bool WaitForWaits(int count) {
    const TimePoint end = steady_clock::now() + kPatience;
    MutexLock lock(mutex_);
    while (num_waits_ < count) {
      if (!changed_.WaitUntil(mutex_, end)) return false;
    }
    return true;
  }
  size_t num_connections() {
    MutexLock lock(mutex_);
    return accepted_.size();
  }
  int num_waits() {
    MutexLock lock(mutex_);
    return num_waits_;
  }
  // Closes the oldest.
  void CloseOne() {
    MutexLock lock(mutex_);
    accepted_.pop_front();
  }
  int newest() {
    MutexLock lock(mutex_);
    return accepted_.back().get();
  }
  AcceptLoop& loop() { return *loop_; }
  int port() const { return loop_->ports()[0]; }

 private:
  using TimePoint = steady_clock::time_point;

  Mutex mutex_;
  CondVar changed_;
  std::deque<FileDescriptor> accepted_ ABSL_GUARDED_BY(mutex_);
  int num_waits_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<AcceptLoop> loop_;  // last: it calls back
};

// The process may have `spare` more descriptors than the lowest that is free, until destruction.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(int spare) {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit limit = before_;
    const FileDescriptor lowest(dup(0));
    // An eighth is what the loop leaves to others.
    limit.rlim_cur = static_cast<rlim_t>((lowest.get() + spare + 1) * 8 / 7);
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

int64_t CpuMilliseconds() {
  timespec time = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

TEST(AcceptLoopTest, HandsOnWhatConnectsWithoutDelayAndNotInherited) {
  Accepting accepting({.listen = {"127.0.0.1:0"}});
  ASSERT_GT(accepting.port(), 0);
  const FileDescriptor client = Connect(accepting.port());
  ASSERT_TRUE(client.is_open());
  ASSERT_TRUE(accepting.WaitForConnections(1));
  const int fd = accepting.newest();
  EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  int no_delay = 0;
  socklen_t size = sizeof(no_delay);
  ASSERT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size), 0);
  EXPECT_NE(no_delay, 0);
}

TEST(AcceptLoopTest, ListensOnSeveralAddresses) {
  Accepting accepting({.listen = {"127.0.0.1:0", "localhost:0", "[::1]:0"}});
  const std::vector<int> ports = accepting.loop().ports();
  ASSERT_EQ(ports.size(), 3U);
  const FileDescriptor first = Connect(ports[0]);
  const FileDescriptor second = Connect(ports[1]);
  const FileDescriptor third = ConnectIpv6(ports[2]);
  EXPECT_TRUE(first.is_open() && second.is_open() && third.is_open());
  EXPECT_TRUE(accepting.WaitForConnections(3));
}

TEST(AcceptLoopTest, ListensNowhereElse) {
  Accepting ipv4({.listen = {"127.0.0.1:0"}});
  EXPECT_FALSE(ConnectIpv6(ipv4.port()).is_open());
  Accepting ipv6({.listen = {"[::1]:0"}});
  EXPECT_FALSE(Connect(ipv6.port()).is_open());
}

TEST(AcceptLoopTest, SaysWhichAddressCannotBeListenedOn) {
  Accepting accepting({.listen = {"127.0.0.1:0"}});
  const std::string taken = "127.0.0.1:" + std::to_string(accepting.port());
  for (const std::string& address : {taken, std::string("192.0.2.1:0"), std::string("nowhere")}) {
    const auto second = AcceptLoop::Listen({.listen = {"127.0.0.1:0", address}});
    EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(second.status().message()), HasSubstr("cannot listen on " + address));
  }
}

TEST(AcceptLoopTest, APortCanBeTakenAgainAtOnce) {
  int port = 0;
  {
    Accepting accepting({.listen = {"127.0.0.1:0"}});
    port = accepting.port();
    const FileDescriptor client = Connect(port);
    ASSERT_TRUE(accepting.WaitForConnections(1));
    // Who closes first leaves the port in TIME_WAIT: this side.
    accepting.CloseOne();
  }
  const auto again = AcceptLoop::Listen({.listen = {"127.0.0.1:" + std::to_string(port)}});
  EXPECT_TRUE(again.ok()) << again.status();
}

TEST(AcceptLoopTest, WithoutFreeDescriptorsAConnectionWaitsUntilThereIsOne) {
  Accepting accepting({.listen = {"127.0.0.1:0"}});
  std::vector<FileDescriptor> clients;
  {
    const DescriptorLimit limit(/*spare=*/40);
    // Both ends are this process's: each connection takes two.
    do {
      clients.push_back(Connect(accepting.port()));
      ASSERT_TRUE(clients.back().is_open()) << "the loop has taken the last ones";
    } while (accepting.AcceptsUpTo(clients.size()));
    const size_t before = accepting.num_connections();
    ASSERT_LT(before, clients.size());
    // It waits without being busy.
    const int64_t cpu = CpuMilliseconds();
    const auto begin = steady_clock::now();
    while (steady_clock::now() - begin < milliseconds(300)) poll(nullptr, 0, 50);
    EXPECT_LT(CpuMilliseconds() - cpu, 100);
    EXPECT_EQ(accepting.num_connections(), before);
    EXPECT_EQ(accepting.num_waits(), 1);

    // Two descriptors are free again, of which the one that waits takes one.
    const auto release = steady_clock::now();
    accepting.CloseOne();
    accepting.CloseOne();
    ASSERT_TRUE(accepting.WaitForConnections(before - 1));
    EXPECT_LT(steady_clock::now() - release, std::chrono::seconds(1));
  }
  // As many as there are, once there are more descriptors.
  clients.push_back(Connect(accepting.port()));
  EXPECT_TRUE(accepting.WaitForConnections(clients.size() - 2));
}

TEST(AcceptLoopTest, WhenOthersTookTheLastDescriptorItWaitsToo) {
  Accepting accepting({.listen = {"127.0.0.1:0"}});
  const FileDescriptor client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::vector<FileDescriptor> others;
  {
    const DescriptorLimit limit(/*spare=*/10);
    do {
      others.emplace_back(dup(0));
    } while (others.back().is_open());
    ConnectTo(client, accepting.port());
    ASSERT_TRUE(accepting.WaitForWaits(1));
    EXPECT_EQ(accepting.num_connections(), 0U);
    const auto release = steady_clock::now();
    others.clear();
    ASSERT_TRUE(accepting.WaitForConnections(1));
    EXPECT_LT(steady_clock::now() - release, std::chrono::seconds(1));
  }
}

TEST(AcceptLoopTest, HoldsMaxConnectionsExactly) {
  Accepting accepting({.listen = {"127.0.0.1:0"}, .max_connections = 3});
  std::vector<FileDescriptor> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(Connect(accepting.port()));
    ASSERT_TRUE(clients.back().is_open());  // by the kernel's queue
  }
  ASSERT_TRUE(accepting.WaitForConnections(3));
  ASSERT_TRUE(accepting.WaitForWaits(1));
  EXPECT_EQ(accepting.num_connections(), 3U);
  accepting.CloseOne();
  ASSERT_TRUE(accepting.WaitForConnections(3));
  ASSERT_TRUE(accepting.WaitForWaits(2));
  EXPECT_EQ(accepting.num_connections(), 3U);
  accepting.CloseOne();
  EXPECT_TRUE(accepting.WaitForConnections(3));
}

TEST(AcceptLoopTest, StopsWhileAConnectionWaits) {
  Accepting accepting({.listen = {"127.0.0.1:0"}, .max_connections = 1});
  const FileDescriptor first = Connect(accepting.port());
  const FileDescriptor second = Connect(accepting.port());
  ASSERT_TRUE(accepting.WaitForWaits(1));
  EXPECT_LT(accepting.loop().silence(), kPatience);
  accepting.loop().Stop();
  EXPECT_EQ(accepting.loop().silence(), milliseconds(0));
  EXPECT_EQ(accepting.num_connections(), 1U);
}

}  // namespace
}  // namespace moed
