#include "server/app/service_manager.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using std::chrono::microseconds;
using ::testing::MatchesRegex;

// What systemd would be.
class Manager {
 public:
  explicit Manager(const std::string& name) : name_(name) {
    fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), length), 0);
  }
  ~Manager() {
    close(fd_);
    if (name_[0] == '/') unlink(name_.c_str());
  }

  // The next message; empty: none within `patience`.
  std::string Next(std::chrono::milliseconds patience = std::chrono::seconds(30)) const {
    pollfd readable = {fd_, POLLIN, 0};
    if (poll(&readable, 1, static_cast<int>(patience.count())) != 1) return "";
    std::string message(4096, '\0');
    message.resize(static_cast<size_t>(recv(fd_, message.data(), message.size(), 0)));
    return message;
  }

 private:
  const std::string name_;
  int fd_ = -1;
};

std::string PathName() { return testing::TempDir() + "/notify_" + std::to_string(getpid()); }
std::string AbstractName() { return "@moed-test-" + std::to_string(getpid()); }

TEST(ServiceManagerTest, IsToldOfEveryPhase) {
  for (const std::string& name : {PathName(), AbstractName()}) {
    const Manager manager(name);
    ServiceManager told({.notify_socket = name, .watchdog = std::nullopt});
    EXPECT_TRUE(told.SetStatus("loading, 5 %").ok());
    EXPECT_EQ(manager.Next(), "STATUS=loading, 5 %");
    EXPECT_TRUE(told.Ready("serving\nREADY=0").ok());
    EXPECT_EQ(manager.Next(), "READY=1\nSTATUS=serving READY=0");
    EXPECT_TRUE(told.Reloading().ok());
    EXPECT_THAT(manager.Next(), MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+"));
    EXPECT_TRUE(told.Stopping("draining").ok());
    EXPECT_EQ(manager.Next(), "STOPPING=1\nSTATUS=draining");
  }
}

TEST(ServiceManagerTest, WithoutASocketNothingHappens) {
  ServiceManager told({.notify_socket = "", .watchdog = microseconds(1)});
  told.StartWatchdog([] { return true; });
  EXPECT_TRUE(told.Ready("serving").ok());
}

TEST(ServiceManagerTest, ASocketThatIsNotThereIsAnError) {
  for (const std::string& name : {std::string("/nonexistent/notify"), std::string("relative"),
                                  "/" + std::string(200, 'x'), std::string("@") + "gone"}) {
    EXPECT_FALSE(ServiceManager({.notify_socket = name, .watchdog = std::nullopt}).Ready("").ok());
  }
}

// A manager that does not read fills its queue.
TEST(ServiceManagerTest, NeverBlocks) {
  const Manager manager(AbstractName());
  ServiceManager told({.notify_socket = AbstractName(), .watchdog = std::nullopt});
  bool refused = false;
  for (int i = 0; i < 100'000 && !refused; ++i) refused = !told.SetStatus("again").ok();
  EXPECT_TRUE(refused);
}

TEST(ServiceManagerTest, TheWatchdogSpeaksWhileTheDaemonIsAlive) {
  const Manager manager(AbstractName());
  std::atomic<bool> alive = true;
  std::atomic<int> asked_in_vain = 0;
  ServiceManager told({.notify_socket = AbstractName(), .watchdog = microseconds(2000)});
  told.StartWatchdog([&] {
    if (!alive) ++asked_in_vain;
    return alive.load();
  });
  EXPECT_EQ(manager.Next(), "WATCHDOG=1");
  EXPECT_EQ(manager.Next(), "WATCHDOG=1");
  alive = false;
  // What was sent before it heard of that comes first.
  while (asked_in_vain < 2) manager.Next(std::chrono::milliseconds(1));
  while (!manager.Next(std::chrono::milliseconds(0)).empty()) {
  }
  const int before = asked_in_vain;
  while (asked_in_vain < before + 2) EXPECT_EQ(manager.Next(std::chrono::milliseconds(1)), "");
}

TEST(ServiceManagerTest, ReadsTheEnvironment) {
  setenv("NOTIFY_SOCKET", "/run/notify", 1);
  setenv("WATCHDOG_USEC", "3000000", 1);
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  ServiceManagerSettings settings = ServiceManagerSettings::FromEnvironment();
  EXPECT_EQ(settings.notify_socket, "/run/notify");
  EXPECT_EQ(settings.watchdog, std::chrono::seconds(3));
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(ServiceManagerSettings::FromEnvironment().watchdog, std::nullopt);
  unsetenv("WATCHDOG_PID");
  setenv("WATCHDOG_USEC", "soon", 1);
  EXPECT_EQ(ServiceManagerSettings::FromEnvironment().watchdog, std::nullopt);
  unsetenv("WATCHDOG_USEC");
  unsetenv("NOTIFY_SOCKET");
  EXPECT_EQ(ServiceManagerSettings::FromEnvironment().notify_socket, "");
}

}  // namespace
}  // namespace moed
