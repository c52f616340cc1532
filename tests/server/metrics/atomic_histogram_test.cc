#include "server/metrics/atomic_histogram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

namespace moed {
namespace {

using ::testing::ElementsAre;

constexpr std::array<double, 2> kBounds = {1, 2};

TEST(AtomicHistogramTest, AValueThatEqualsABoundBelongsBelowIt) {
  AtomicHistogram histogram(kBounds);
  histogram.Observe(1);
  histogram.Observe(1.5, 3);
  histogram.Observe(2);
  histogram.Observe(2.5);
  EXPECT_THAT(histogram.Buckets(), ElementsAre(1, 4, 1));
  EXPECT_EQ(histogram.Sum(), 10);
}

TEST(AtomicHistogramTest, ThreadsLoseNothing) {
  AtomicHistogram histogram(kBounds);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&histogram] {
      for (int j = 0; j < 10000; ++j) histogram.Observe(2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(histogram.Buckets(), ElementsAre(0, 40000, 0));
  EXPECT_EQ(histogram.Sum(), 80000);
}

}  // namespace
}  // namespace moed
