#include "runtime/output/writer_threads.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/mutex.h"

namespace moed {
namespace {

TEST(WriterThreadsTest, OneThreadWritesInTheOrderOfPosting) {
  std::vector<int> written;
  {
    WriterThreads writers(1);
    for (int i = 0; i < 1000; ++i) writers.Post([&written, i] { written.push_back(i); });
  }
  ASSERT_EQ(written.size(), 1000U);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(written[i], i);
}

TEST(WriterThreadsTest, EachIsWrittenOnceHoweverManyThreadsPostAndWrite) {
  std::vector<std::atomic<int>> written(4000);
  {
    WriterThreads writers(3);
    std::vector<std::thread> posters;
    for (int poster = 0; poster < 4; ++poster) {
      posters.emplace_back([&, poster] {
        for (int i = 0; i < 1000; ++i) {
          writers.Post([&written, at = poster * 1000 + i] { ++written[at]; });
        }
      });
    }
    for (std::thread& poster : posters) poster.join();
  }
  for (const std::atomic<int>& count : written) EXPECT_EQ(count, 1);
}

TEST(WriterThreadsTest, AWriteDoesNotHoldUpWhoPostsNorOtherThreads) {
  Mutex mutex;
  CondVar changed;
  bool second_written = false;
  WriterThreads writers(2);
  // The first ends only once the second, posted later, has been written.
  writers.Post([&] {
    MutexLock lock(mutex);
    while (!second_written) changed.Wait(mutex);
  });
  writers.Post([&] {
    MutexLock lock(mutex);
    second_written = true;
    changed.NotifyAll();
  });
}

TEST(WriterThreadsTest, AWriteMayPost) {
  std::atomic<int> written = 0;
  Mutex mutex;
  CondVar changed;
  bool done = false;
  WriterThreads writers(1);
  writers.Post([&] {
    ++written;
    writers.Post([&] {
      MutexLock lock(mutex);
      ++written;
      done = true;
      changed.NotifyAll();
    });
  });
  MutexLock lock(mutex);
  while (!done) changed.Wait(mutex);
  EXPECT_EQ(written, 2);
}

}  // namespace
}  // namespace moed
