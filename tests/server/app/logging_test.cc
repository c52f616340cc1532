#include "server/app/logging.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/mutex.h"
#include "nlohmann/json.hpp"

namespace moed {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// Longer than a pipe and the log's queue hold together.
constexpr int kFlood = 40'000;
const std::string kHundredBytes(100, 'x');

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0); }
  ~Pipe() {
    CloseReader();
    close(ends_[1]);
  }
  void CloseReader() {
    if (ends_[0] >= 0) close(ends_[0]);
    ends_[0] = -1;
  }
  int reader() const { return ends_[0]; }
  int writer() const { return ends_[1]; }

  // What is there now.
  std::string Read() const {
    std::string text(1 << 20, '\0');
    const ssize_t size = read(ends_[0], text.data(), text.size());
    text.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return text;
  }

 private:
  int ends_[2] = {-1, -1};
};

std::string Logged(const char* format, const std::function<void(Log&)>& what) {
  const Pipe pipe;
  Log log(format, "info", pipe.writer());
  what(log);
  log.Flush();
  return pipe.Read();
}

TEST(LoggingTest, JsonHasFieldsAsMembers) {
  const std::string line = Logged("json", [](Log& log) {
    log.Event(LogLevel::kWarning, "went \"wrong\"\n",
              {{"rank", 3}, {"seconds", 0.25}, {"name", "a\x1b\xff"}, {"on", true}});
  });
  EXPECT_EQ(line.back(), '\n');
  const json parsed = json::parse(line);
  EXPECT_EQ(parsed["level"], "warning");
  EXPECT_EQ(parsed["message"], "went \"wrong\"\n");
  EXPECT_EQ(parsed["rank"], 3);
  EXPECT_EQ(parsed["seconds"], 0.25);
  EXPECT_EQ(parsed["name"], "a\x1b\xEF\xBF\xBD");
  EXPECT_EQ(parsed["on"], true);
  EXPECT_THAT(parsed["time"].get<std::string>(), ContainsRegex("^20[0-9-]+T[0-9:]+\\.[0-9]{3}Z$"));
}

TEST(LoggingTest, TextHasFieldsAfterTheMessage) {
  const std::string line = Logged("text", [](Log& log) {
    log.Event(LogLevel::kInfo, "two\nlines",
              {{"id", "r-1"}, {"text", "a b\x1b[31m\""}, {"empty", ""}, {"n", -2}});
  });
  EXPECT_THAT(line, ContainsRegex("^20[0-9-]+ [0-9:]+\\.[0-9]{3} info "));
  EXPECT_THAT(line, HasSubstr("two\\nlines id=r-1 text=\"a b\\x1b[31m\\\"\" empty=\"\" n=-2\n"));
}

TEST(LoggingTest, ALevelCanBeSetWhileItRuns) {
  const std::string lines = Logged("json", [](Log& log) {
    log.Debug("first");
    log.SetLevel(LogLevel::kDebug);
    log.Debug("second");
    log.SetLevel(LogLevel::kError);
    log.Warning("third");
    log.Error("fourth");
  });
  EXPECT_THAT(lines, AllOf(Not(HasSubstr("first")), HasSubstr("second"), Not(HasSubstr("third")),
                           HasSubstr("fourth")));
  EXPECT_EQ(*ParseLogLevel("warning"), LogLevel::kWarning);
  EXPECT_FALSE(ParseLogLevel("loud").ok());
}

// The reader stalls: logging goes on at once, lines are dropped, and later the log says how many.
TEST(LoggingTest, AReaderThatStallsStopsNobody) {
  for (const bool nonblocking : {false, true}) {
    const Pipe pipe;
    if (nonblocking) fcntl(pipe.writer(), F_SETFL, O_NONBLOCK);
    Log log("json", "info", pipe.writer());
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kFlood; ++i) log.Info(kHundredBytes);
    EXPECT_GT(log.dropped_lines(), 0);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
    // Somebody reads again.
    Mutex mutex;
    std::string text;
    bool done = false;
    std::thread reader([&] {
      while (true) {
        const std::string part = pipe.Read();
        MutexLock lock(mutex);
        text += part;
        if (done && text.find("dropped_lines") != std::string::npos) return;
      }
    });
    log.Flush(milliseconds(60'000));
    log.Info("after");
    log.Flush(milliseconds(60'000));
    {
      MutexLock lock(mutex);
      done = true;
    }
    log.Info("the last");
    reader.join();
    int64_t told = 0;
    const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
    for (const std::string& line : lines) {
      if (!json::accept(line)) continue;  // the last may be half read
      const json parsed = json::parse(line);
      if (parsed.contains("dropped_lines")) told += parsed["dropped_lines"].get<int64_t>();
    }
    EXPECT_EQ(told, log.dropped_lines());
  }
}

TEST(LoggingTest, EndsThoughNobodyReads) {
  const Pipe pipe;
  const auto begin = std::chrono::steady_clock::now();
  {
    Log log("json", "info", pipe.writer());
    for (int i = 0; i < kFlood; ++i) log.Info(kHundredBytes);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(LoggingTest, ADiskThatIsFullStopsNobody) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  Log log("json", "info", full);
  for (int i = 0; i < 100; ++i) log.Info("lost");
  log.Flush();
  EXPECT_EQ(log.dropped_lines(), 100);
  close(full);
}

TEST(LoggingTest, AReaderThatHasGoneStopsNobody) {
  Pipe pipe;
  pipe.CloseReader();
  Log log("json", "info", pipe.writer());
  for (int i = 0; i < 100; ++i) log.Info("lost");
  log.Flush();
  EXPECT_EQ(log.dropped_lines(), 100);
}

TEST(LoggingTest, AClosedDescriptorStopsNobody) {
  Log log("json", "info", 987654);
  log.Info("lost");
  log.Flush();
  EXPECT_EQ(log.dropped_lines(), 1);
}

TEST(LoggingTest, LinesOfManyThreadsStayWhole) {
  const Pipe pipe;
  Log log("json", "info", pipe.writer());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) log.Event(LogLevel::kInfo, "line", {{"i", i}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  log.Flush();
  const std::vector<std::string> lines = absl::StrSplit(pipe.Read(), '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 200U);
  for (const std::string& line : lines) EXPECT_TRUE(json::accept(line)) << line;
}

}  // namespace
}  // namespace moed
