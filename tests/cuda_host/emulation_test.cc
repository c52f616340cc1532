// The emulation runs correct kernels correctly, whatever the order of blocks and threads.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <numeric>

#include "gmock/gmock.h"
#include "tests/cuda_host/self_test_kernels.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda_host {
namespace {

using testing::Each;
using testing::ElementsAreArray;

constexpr auto kUnwritten = static_cast<int32_t>(0xCDCDCDCD);

class EmulationTest : public cuda::DeviceTest {
 protected:
  static std::vector<int32_t> Counting(int64_t count, int32_t first) {
    std::vector<int32_t> values(static_cast<size_t>(count));
    std::iota(values.begin(), values.end(), first);
    return values;
  }
  const cuda::LaunchContext& context() { return stream().context(); }
};

TEST_F(EmulationTest, BarriersOrderTheThreadsOfABlock) {
  UnderEachBlockOrder([&] {
    constexpr int kBlocks = 3;
    constexpr int kThreads = 128;
    const std::vector<int32_t> values = Counting(kBlocks * kThreads, 1);
    std::vector<int32_t> totals(kBlocks);
    for (size_t i = 0; i < values.size(); ++i) totals[i / kThreads] += values[i];
    const auto in = Upload(values);
    const auto out = Make<int32_t>(kBlocks);
    stream().Note(LaunchTreeSum(context(), in.data(), out.data(), kBlocks, kThreads), "TreeSum");
    EXPECT_THAT(Download(out), ElementsAreArray(totals));
  });
}

TEST_F(EmulationTest, ShufflesReadOtherLanes) {
  UnderEachBlockOrder([&] {
    const std::vector<int32_t> values = Counting(64, 5);
    std::vector<int32_t> sums(64);
    for (size_t i = 0; i < 64; ++i) sums[i] = values[i] + (i % 32 == 0 ? 0 : sums[i - 1]);
    const auto in = Upload(values);
    const auto out = Make<int32_t>(64);
    stream().Note(LaunchPrefixSum(context(), in.data(), out.data(), 64), "PrefixSum");
    EXPECT_THAT(Download(out), ElementsAreArray(sums));
  });
}

TEST_F(EmulationTest, ABarrierDoesNotWaitForThreadsThatHaveReturned) {
  UnderEachBlockOrder([&] {
    const auto in = Upload(Counting(100, 0));
    const auto out = Make<int32_t>(100);
    stream().Note(LaunchCountOdd(context(), in.data(), out.data(), 100, /*leave_from=*/37),
                  "CountOdd");
    std::vector<int32_t> want(100, kUnwritten);
    std::fill_n(want.begin(), 37, 18);  // 1, 3, ..., 35
    EXPECT_THAT(Download(out), ElementsAreArray(want));
  });
}

TEST_F(EmulationTest, LanesOfAMaskMeetWithoutTheOthers) {
  UnderEachBlockOrder([&] {
    const auto in = Upload(Counting(32, 0));
    const auto out = Make<int32_t>(32);
    stream().Note(LaunchHalfWarps(context(), in.data(), out.data()), "HalfWarps");
    std::vector<int32_t> want(32, 0xaaaa | 15 << 16);
    std::fill_n(want.begin() + 16, 16, 0xaaaa | 31 << 16);
    EXPECT_THAT(Download(out), ElementsAreArray(want));
  });
}

TEST_F(EmulationTest, EachOrderRunsEveryBlockOnce) {
  std::vector<std::vector<int32_t>> orders;
  UnderEachBlockOrder([&] {
    const auto tickets = Upload<int32_t>({0});
    const auto order = Make<int32_t>(60);
    stream().Note(LaunchTakeTickets(context(), {5, 4, 3},
                                    reinterpret_cast<unsigned*>(tickets.data()), order.data()),
                  "TakeTickets");
    orders.push_back(Download(order));
  });
  ASSERT_EQ(orders.size(), 3U);
  const std::vector<int32_t> forward = Counting(60, 0);
  EXPECT_EQ(orders[0], forward);
  EXPECT_THAT(orders[1], ElementsAreArray(forward.rbegin(), forward.rend()));
  EXPECT_NE(orders[2], forward);
  EXPECT_NE(orders[2], orders[1]);
  std::sort(orders[2].begin(), orders[2].end());
  EXPECT_EQ(orders[2], forward);
}

TEST_F(EmulationTest, AtomicsLoseNothing) {
  UnderEachBlockOrder([&] {
    const auto sums = Upload<int32_t>({0, 1000, -1000, 0});
    const auto long_sum = Upload<int64_t>({0});
    stream().Note(LaunchAtomics(context(), 3, 64, sums.data(),
                                reinterpret_cast<unsigned long long*>(long_sum.data())),
                  "Atomics");
    EXPECT_THAT(Download(sums), testing::ElementsAre(191 * 192 / 2, 0, 191, 0));
    EXPECT_THAT(Download(long_sum), testing::ElementsAre(int64_t{191 * 192 / 2} << 32));
  });
}

TEST_F(EmulationTest, TensorCoresMultiply) {
  UnderEachBlockOrder([&] {
    // Small integers, so that every order of the sum is exact.
    std::vector<BFloat16> a(16 * 16);
    std::vector<BFloat16> b(8 * 16);
    for (size_t i = 0; i < a.size(); ++i) a[i] = ToBFloat16(static_cast<float>(i * 7 % 13) - 6);
    for (size_t i = 0; i < b.size(); ++i) b[i] = ToBFloat16(static_cast<float>(i * 5 % 11) - 5);
    std::vector<float> want(16 * 8);
    for (size_t m = 0; m < 16; ++m) {
      for (size_t n = 0; n < 8; ++n) {
        for (size_t k = 0; k < 16; ++k) {
          want[m * 8 + n] += ToFloat(a[m * 16 + k]) * ToFloat(b[n * 16 + k]);
        }
      }
    }
    const auto left = Upload(a);
    const auto right = Upload(b);
    const auto out = Make<float>(16 * 8);
    stream().Note(LaunchProduct(context(), reinterpret_cast<const uint16_t*>(left.data()),
                                reinterpret_cast<const uint16_t*>(right.data()), out.data()),
                  "Product");
    EXPECT_EQ(Download(out), want);
  });
}

TEST_F(EmulationTest, AThreadThatSpinsLetsOthersRun) {
  UnderEachBlockOrder([&] {
    const auto flag = Upload<int32_t>({0});
    const auto out = Upload<int32_t>({0});
    stream().Note(LaunchSpin(context(), 64, flag.data(), out.data()), "Spin");
    EXPECT_THAT(Download(out), Each(1));
  });
}

TEST_F(EmulationTest, TheLargestBlockRuns) {
  const auto in = Upload(Counting(1024, 0));
  const auto out = Make<int32_t>(1);
  stream().Note(LaunchTreeSum(context(), in.data(), out.data(), 1, 1024), "TreeSum");
  EXPECT_THAT(Download(out), Each(1023 * 1024 / 2));
}

// Prints what a barrier costs, for those who choose the sizes of kernel tests.
TEST_F(EmulationTest, ABarrierCostsWhatTheLogSays) {
  constexpr int kThreads = 256;
  constexpr int kBarriers = 20;
  constexpr int kBlocks = 50;
  stream().Note(LaunchBarriers(context(), 1, kThreads, 1), "Barriers");
  Run();
  const std::clock_t start = std::clock();
  stream().Note(LaunchBarriers(context(), kBlocks, kThreads, kBarriers), "Barriers");
  Run();
  const double block_us = double(std::clock() - start) / CLOCKS_PER_SEC * 1e6 / kBlocks;
  std::printf(
      "a block of %d threads with %d barriers: %.0f us of CPU, %.0f ns a thread and barrier\n",
      kThreads, kBarriers, block_us, block_us * 1e3 / kThreads / kBarriers);
}

}  // namespace
}  // namespace moed::cuda_host
