// Where the engine thread spends the time of a step.
#pragma once

#include <time.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace moed {

using BenchClock = std::chrono::steady_clock;

inline double MicrosecondsBetween(BenchClock::time_point from, BenchClock::time_point to) {
  return std::chrono::duration<double, std::micro>(to - from).count();
}

// What the calling thread has computed since its start, in microseconds: whoever else wants the
// cores does not count.
inline double ThreadCpuMicroseconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return 1e6 * static_cast<double>(time.tv_sec) + 1e-3 * static_cast<double>(time.tv_nsec);
}

// Of one step, in microseconds, from the end of one Launch to the end of the next: what the engine
// thread spent its time on.
struct StepTimes {
  // For the output thread to be through with the step before; with the commit, where that comes
  // after the launch.
  double wait_for_output = 0;
  double plan = 0;
  double wait_for_ranks = 0;
  double commit = 0;  // routing ledger, scheduler, handing over to the output thread
  double launch = 0;
  double busy_ranks = 0;  // how long the slowest rank itself took
  double cpu = 0;         // of the engine thread

  double total() const { return wait_for_output + plan + wait_for_ranks + commit + launch; }
  // How much later the next step begins than the ranks could have begun it.
  double gap() const { return total() - busy_ranks; }
};

// Written by the engine thread, through the group and the engine's clock; read when that is gone.
class EngineStopwatch {
 public:
  // The engine's clock, for all its threads.
  BenchClock::time_point Now() {
    const BenchClock::time_point now = BenchClock::now();
    if (std::this_thread::get_id() != engine_thread_.load()) return now;
    // It is asked for the time just before it plans, and just before it commits.
    if (!has_awaited_) plan_begin_ = now;
    return now;
  }
  void LaunchBegins(bool is_steady) {
    engine_thread_ = std::this_thread::get_id();
    launch_begin_ = BenchClock::now();
    next_is_steady_ = is_steady;
  }
  void LaunchEnds() {
    const BenchClock::time_point now = BenchClock::now();
    const double cpu = ThreadCpuMicroseconds();
    ++num_launches_;
    if (has_awaited_ && is_steady_ && next_is_steady_) {
      StepTimes times;
      times.wait_for_output = MicrosecondsBetween(launch_end_, plan_begin_);
      times.plan = MicrosecondsBetween(plan_begin_, await_begin_);
      times.wait_for_ranks = MicrosecondsBetween(await_begin_, await_end_);
      times.commit = MicrosecondsBetween(await_end_, launch_begin_);
      times.launch = MicrosecondsBetween(launch_begin_, now);
      times.busy_ranks = busy_ranks_;
      times.cpu = cpu - cpu_;
      steps_.push_back(times);
    }
    is_steady_ = next_is_steady_;
    has_awaited_ = false;
    launch_end_ = now;
    cpu_ = cpu;
  }
  void AwaitBegins() { await_begin_ = BenchClock::now(); }
  void AwaitEnds(double busy_ranks) {
    await_end_ = BenchClock::now();
    has_awaited_ = true;
    busy_ranks_ = busy_ranks;
  }

  const std::vector<StepTimes>& steps() const { return steps_; }
  int64_t num_launches() const { return num_launches_; }

 private:
  std::atomic<std::thread::id> engine_thread_{};
  BenchClock::time_point launch_end_, plan_begin_, await_begin_, await_end_, launch_begin_;
  double busy_ranks_ = 0;
  double cpu_ = 0;
  int64_t num_launches_ = 0;
  bool has_awaited_ = false;
  bool is_steady_ = false;
  bool next_is_steady_ = false;
  std::vector<StepTimes> steps_;
};

}  // namespace moed
