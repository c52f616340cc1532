#include "server/metrics/process_collector.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
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

void AddStartTime(Families* families) {
  // proc(5): the 22nd field of stat is the start in clock ticks since boot; the second is the
  // program's name in brackets, which may hold anything.
  const std::string stat = ReadAll("/proc/self/stat");
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return;
  const std::vector<std::string> fields =
      absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTime = 22 - 3;  // the first here is the third
  int64_t ticks = 0;
  if (fields.size() <= kStartTime || !absl::SimpleAtoi(fields[kStartTime], &ticks)) return;
  for (const absl::string_view line : absl::StrSplit(ReadAll("/proc/stat"), '\n')) {
    int64_t boot_seconds = 0;
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, "btime ") || !absl::SimpleAtoi(rest, &boot_seconds)) continue;
    AddSingle(MetricId::kProcessStartTime,
              static_cast<double>(boot_seconds) +
                  static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK)),
              families);
  }
}

}  // namespace

Families ProcessCollector::Collect() const {
  Families families;
  AddUsage(&families);
  AddResidentMemory(&families);
  AddDescriptors(&families);
  AddStartTime(&families);
  return families;
}

}  // namespace moed
