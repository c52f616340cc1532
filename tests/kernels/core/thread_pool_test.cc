#include "kernels/core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace moed {
namespace {

TEST(ThreadPoolTest, EveryItemRunsOnceInRangesOfAtMostTheGrain) {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (const int64_t items : {0, 1, 7, 100, 1001}) {
      for (const int64_t grain : {0, 1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> runs(static_cast<size_t>(items));
        std::atomic<bool> too_long{false};
        pool.ParallelFor(items, grain, [&](int64_t begin, int64_t end) {
          if (end - begin > std::max<int64_t>(grain, 1)) too_long = true;
          for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
        });
        for (const auto& count : runs) ASSERT_EQ(count, 1);
        EXPECT_FALSE(too_long);
      }
    }
  }
}

TEST(ThreadPoolTest, OneRangeRunsOnItsCaller) {
  ThreadPool pool(4);
  std::thread::id runner;
  pool.ParallelFor(10, 10, [&](int64_t, int64_t) { runner = std::this_thread::get_id(); });
  EXPECT_EQ(runner, std::this_thread::get_id());
}

// Two ranges that wait for each other end only when two threads run them.
TEST(ThreadPoolTest, AHelperJoinsItsCaller) {
  ThreadPool pool(2);
  for (int i = 0; i < 20; ++i) {
    std::barrier meet(2);
    pool.ParallelFor(2, 1, [&](int64_t, int64_t) { meet.arrive_and_wait(); });
  }
}

TEST(ThreadPoolTest, NoMoreThanTheThreadsComputeHoweverManyCall) {
  constexpr int kThreads = 3;
  constexpr int kCallers = 8;
  ThreadPool pool(kThreads);
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; ++c) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 100; ++repeat) {
        pool.ParallelFor(1 + repeat % 9, 1 + repeat % 2, [&](int64_t begin, int64_t end) {
          const int now = ++running;
          int seen = most.load();
          while (now > seen && !most.compare_exchange_weak(seen, now)) {
          }
          sum += end - begin;
          --running;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  int64_t items = 0;
  for (int repeat = 0; repeat < 100; ++repeat) items += 1 + repeat % 9;
  EXPECT_EQ(sum, items * kCallers);
  EXPECT_LE(most, kThreads);
}

// A long job whose helper found no permit when it arrived gets one when another caller leaves.
TEST(ThreadPoolTest, AFreedPermitWakesAHelperForAWaitingJob) {
  ThreadPool pool(2);
  std::barrier both_hold_permits(2);
  std::atomic<bool> second_left{false};
  std::barrier meet(2);
  std::thread other([&] {
    pool.ParallelFor(1, 1, [&](int64_t, int64_t) { both_hold_permits.arrive_and_wait(); });
    second_left = true;
  });
  // Both permits are taken when the next call begins, unless the other thread has left already.
  pool.ParallelFor(1, 1, [&](int64_t, int64_t) { both_hold_permits.arrive_and_wait(); });
  pool.ParallelFor(2, 1, [&](int64_t, int64_t) { meet.arrive_and_wait(); });
  other.join();
  EXPECT_TRUE(second_left);
}

}  // namespace
}  // namespace moed
