#include "server/metrics/process_collector.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/metrics/family_builder.h"

namespace moed {
namespace {

using Families = std::vector<prometheus::MetricFamily>;

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

void AddUsage(Families* families) {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return;
  AddSingle(MetricId::kProcessCpu, Seconds(usage.ru_utime) + Seconds(usage.ru_stime), families);
}

void AddResidentMemory(Families* families) {
  // proc(5): the second number of statm is resident, in pages.
  const std::vector<std::string> fields =
      absl::StrSplit(ReadAll("/proc/self/statm"), ' ', absl::SkipEmpty());
  int64_t pages = 0;
  if (fields.size() < 2 || !absl::SimpleAtoi(fields[1], &pages)) return;
  AddSingle(MetricId::kProcessResidentMemory,
            static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE)), families);
}

void AddDescriptors(Families* families) {
  std::error_code error;
  int64_t open = -1;  // the one that reads the folder is not counted
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end;
       !error && entry != end; entry.increment(error)) {
    ++open;
  }
  if (!error) AddSingle(MetricId::kProcessOpenFds, static_cast<double>(open), families);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    AddSingle(MetricId::kProcessMaxFds, static_cast<double>(limit.rlim_cur), families);
  }
}

// The start of this process, in clock ticks since boot.
std::optional<int64_t> StartTicks() {
  // proc(5): the 22nd field of stat; the second is the program's name in brackets, which may hold
  // anything.
  const std::string stat = ReadAll("/proc/self/stat");
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields =
      absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTime = 22 - 3;  // the first here is the third
  int64_t ticks = 0;
  if (fields.size() <= kStartTime || !absl::SimpleAtoi(fields[kStartTime], &ticks)) {
    return std::nullopt;
  }
  return ticks;
}

std::optional<int64_t> BootUnixSeconds() {
  const std::string stat = ReadAll("/proc/stat");
  for (absl::string_view line : absl::StrSplit(stat, '\n')) {
    int64_t seconds = 0;
    if (absl::ConsumePrefix(&line, "btime ") && absl::SimpleAtoi(line, &seconds)) return seconds;
  }
  return std::nullopt;
}

std::optional<double> StartUnixSeconds() {
  const std::optional<int64_t> ticks = StartTicks();
  const std::optional<int64_t> boot = BootUnixSeconds();
  if (!ticks.has_value() || !boot.has_value()) return std::nullopt;
  return static_cast<double>(*boot) +
         static_cast<double>(*ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

ProcessCollector::ProcessCollector() : start_unix_seconds_(StartUnixSeconds()) {}

Families ProcessCollector::Collect() const {
  Families families;
  AddUsage(&families);
  AddResidentMemory(&families);
  AddDescriptors(&families);
  if (start_unix_seconds_.has_value()) {
    AddSingle(MetricId::kProcessStartTime, *start_unix_seconds_, &families);
  }
  return families;
}

}  // namespace moed
