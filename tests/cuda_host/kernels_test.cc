// The emulation runs correct kernels correctly.
#include <numeric>

#include "gmock/gmock.h"
#include "tests/cuda_host/kernels/self_test_kernels.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda_host {
namespace {

using testing::ElementsAreArray;

using EmulationTest = cuda::DeviceTest;

TEST_F(EmulationTest, BarriersOrderTheThreadsOfABlock) {
  UnderEachBlockOrder([&] {
    constexpr int kBlocks = 3;
    constexpr int kThreads = 128;
    std::vector<int32_t> values(kBlocks * kThreads);
    std::iota(values.begin(), values.end(), 1);
    std::vector<int32_t> totals(kBlocks);
    for (int i = 0; i < kBlocks * kThreads; ++i) totals[i / kThreads] += values[i];
    const auto in = Upload(values);
    const auto out = Make<int32_t>(kBlocks);
    stream().Note(LaunchTreeSum(stream().context(), in.data(), out.data(), kBlocks, kThreads),
                  "TreeSum");
    EXPECT_THAT(Download(out), ElementsAreArray(totals));
  });
}

TEST_F(EmulationTest, ShufflesReadOtherLanes) {
  UnderEachBlockOrder([&] {
    std::vector<int32_t> values(64);
    std::iota(values.begin(), values.end(), 5);
    std::vector<int32_t> sums(64);
    for (int i = 0; i < 64; ++i) sums[i] = values[i] + (i % 32 == 0 ? 0 : sums[i - 1]);
    const auto in = Upload(values);
    const auto out = Make<int32_t>(64);
    stream().Note(LaunchPrefixSum(stream().context(), in.data(), out.data(), 64), "PrefixSum");
    EXPECT_THAT(Download(out), ElementsAreArray(sums));
  });
}

}  // namespace
}  // namespace moed::cuda_host
