// Each planted fault is caught, and by what: the emulation itself, AddressSanitizer,
// ThreadSanitizer or a wrong result. The same kernels without their fault run clean.
#include <cstdlib>
#include <functional>

#include "gmock/gmock.h"
#include "tests/cuda_host/planted/planted_kernels.h"
#include "tests/cuda_host/sanitizer.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda_host {
namespace {

using cuda::DeviceArray;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kThreads = 32;
constexpr int kRaceExitCode = 66;  // ThreadSanitizer's

class PlantedFaultTest : public cuda::DeviceTest {
 protected:
  PlantedFaultTest() { testing::GTEST_FLAG(death_test_style) = "threadsafe"; }

  std::vector<int32_t> Values() {
    std::vector<int32_t> values;
    for (int i = 0; i < kThreads; ++i) values.push_back(100 + i);
    return values;
  }
  std::vector<int32_t> Rotated() {
    std::vector<int32_t> values = Values();
    values.push_back(values.front());
    values.erase(values.begin());
    return values;
  }
  const cuda::LaunchContext& context() { return stream().context(); }
  int* out() { return out_.data(); }
  std::vector<int32_t> Output() { return Download(out_); }

  // Enqueues, and runs it.
  void Launch(cuda::LaunchError error) {
    stream().Note(error, "planted");
    Run();
  }

 private:
  DeviceArray<int32_t> out_ = Make<int32_t>(kThreads);
};

TEST_F(PlantedFaultTest, AMissingBarrierIsARace) {
  const auto values = Upload(Values());
  if (!kThreadSanitizer) GTEST_SKIP() << "needs ThreadSanitizer";
  EXPECT_EXIT(
      {
        Launch(LaunchMissingBarrier(context(), values.data(), out(), kThreads, true));
        std::exit(0);
      },
      testing::ExitedWithCode(kRaceExitCode),
      AllOf(HasSubstr("data race"), HasSubstr("MissingBarrierKernel")));
}

TEST_F(PlantedFaultTest, AMissingBarrierGivesAWrongResult) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer ends the program first";
  const auto values = Upload(Values());
  Launch(LaunchMissingBarrier(context(), values.data(), out(), kThreads, true));
  EXPECT_NE(Output(), Rotated());
}

TEST_F(PlantedFaultTest, WithItsBarrierItIsClean) {
  const auto values = Upload(Values());
  UnderEachBlockOrder([&] {
    Launch(LaunchMissingBarrier(context(), values.data(), out(), kThreads, false));
    EXPECT_EQ(Output(), Rotated());
  });
}

TEST_F(PlantedFaultTest, AVoteInPlaceOfAWarpBarrierIsARace) {
  const auto values = Upload(Values());
  if (!kThreadSanitizer) GTEST_SKIP() << "needs ThreadSanitizer";
  EXPECT_EXIT(
      {
        Launch(LaunchMissingWarpBarrier(context(), values.data(), out(), true));
        std::exit(0);
      },
      testing::ExitedWithCode(kRaceExitCode),
      AllOf(HasSubstr("data race"), HasSubstr("MissingWarpBarrierKernel")));
}

TEST_F(PlantedFaultTest, WithItsWarpBarrierItIsClean) {
  const auto values = Upload(Values());
  UnderEachBlockOrder([&] {
    Launch(LaunchMissingWarpBarrier(context(), values.data(), out(), false));
    EXPECT_EQ(Output(), Rotated());
  });
}

TEST_F(PlantedFaultTest, DynamicSharedMemoryOverflows) {
  Launch(LaunchDynamicSharedOverflow(context(), out(), 32));
  EXPECT_EQ(Output()[0], 31 * 32 / 2);
  const char* const caught =
      kAddressSanitizer ? "heap-buffer-overflow" : "past the end of dynamic shared memory";
  EXPECT_DEATH(Launch(LaunchDynamicSharedOverflow(context(), out(), 33)), HasSubstr(caught));
}

TEST_F(PlantedFaultTest, StaticSharedMemoryOverflows) {
  Launch(LaunchStaticSharedOverflow(context(), out(), 32));
  EXPECT_EQ(Output()[0], 31 * 32 / 2);
  if (!kAddressSanitizer) GTEST_SKIP() << "needs AddressSanitizer";
  EXPECT_DEATH(Launch(LaunchStaticSharedOverflow(context(), out(), 33)),
               AllOf(HasSubstr("global-buffer-overflow"), HasSubstr("StaticSharedOverflowKernel")));
}

TEST_F(PlantedFaultTest, BarriersAtTwoPlacesDiverge) {
  EXPECT_DEATH(Launch(LaunchTwoBarriers(context(), kThreads)),
               AllOf(HasSubstr("divergent barrier: threads meet at different calls"),
                     HasSubstr("TwoBarriersKernel, block (0, 0, 0), thread 16"),
                     HasSubstr("threads 0-15: wait in __syncthreads")));
}

TEST_F(PlantedFaultTest, ABarrierThatSomeNeverReachDiverges) {
  EXPECT_DEATH(Launch(LaunchBlockAgainstWarp(context(), kThreads)),
               AllOf(HasSubstr("divergent barrier: all threads that have not returned wait"),
                     HasSubstr("threads 0-15: wait in __syncthreads"),
                     HasSubstr("threads 16-31: wait in __syncwarp"), HasSubstr("mask ffffffff")));
}

TEST_F(PlantedFaultTest, AMaskThatLeavesOutItsCallerIsWrong) {
  EXPECT_DEATH(Launch(LaunchLaneOutsideItsMask(context(), out())),
               HasSubstr("wrong mask: lane 31 calls with 7fffffff, which leaves it out"));
}

TEST_F(PlantedFaultTest, AReadOfALaneThatTookNoPartIsWrong) {
  EXPECT_DEATH(Launch(LaunchReadOfAbsentLane(context(), out())),
               HasSubstr("wrong mask: lane 30 reads from lane 31, which took no part"));
}

TEST_F(PlantedFaultTest, MasksThatDifferAreWrong) {
  EXPECT_DEATH(Launch(LaunchMasksThatDiffer(context(), out())),
               AllOf(HasSubstr("wrong mask: lane 31 names c0000000"), HasSubstr("ffffffff")));
}

TEST_F(PlantedFaultTest, ARowTooManyLeavesTheTensor) {
  const auto in = Upload(std::vector<int32_t>(15, 7));
  const auto three_rows = Make<int32_t>(9);
  Launch(LaunchCopyRows(context(), in.data(), three_rows.data(), 3, 3, false));
  EXPECT_THAT(Download(three_rows), testing::Each(7));
  if (!kAddressSanitizer) GTEST_SKIP() << "needs AddressSanitizer";
  EXPECT_DEATH(Launch(LaunchCopyRows(context(), in.data(), three_rows.data(), 3, 3, true)),
               AllOf(HasSubstr("heap-buffer-overflow"), HasSubstr("CopyRowsKernel")));
}

TEST_F(PlantedFaultTest, ARowTooManyShowsInTheRowsBehind) {
  const auto in = Upload(std::vector<int32_t>(12, 7));
  const auto four_rows = Make<int32_t>(12);
  constexpr auto kUnwritten = static_cast<int32_t>(0xCDCDCDCD);
  Launch(LaunchCopyRows(context(), in.data(), four_rows.data(), 3, 3, false));
  EXPECT_EQ(Download(four_rows)[9], kUnwritten);
  Launch(LaunchCopyRows(context(), in.data(), four_rows.data(), 3, 3, true));
  EXPECT_NE(Download(four_rows)[9], kUnwritten);
}

TEST_F(PlantedFaultTest, GlobalMemoryIsReadPastItsEnd) {
  const auto in = Upload(Values());
  Launch(LaunchRead(context(), in.data(), kThreads - 1, out()));
  EXPECT_EQ(Output()[0], 100 + kThreads - 1);
  if (!kAddressSanitizer) GTEST_SKIP() << "needs AddressSanitizer";
  EXPECT_DEATH(Launch(LaunchRead(context(), in.data(), kThreads, out())),
               AllOf(HasSubstr("heap-buffer-overflow"), HasSubstr("ReadKernel")));
}

TEST_F(PlantedFaultTest, AKernelReadsMemoryThatIsReleased) {
  if (!kAddressSanitizer) GTEST_SKIP() << "needs AddressSanitizer";
  EXPECT_DEATH(
      {
        auto in = Upload(Values());
        stream().Note(LaunchRead(context(), in.data(), 0, out()), "planted");
        in = DeviceArray<int32_t>();
        Run();
      },
      AllOf(HasSubstr("heap-use-after-free"), HasSubstr("ReadKernel")));
}

TEST_F(PlantedFaultTest, TheHostReadsDeviceMemory) {
  if (!kAddressSanitizer) GTEST_SKIP() << "needs AddressSanitizer";
  const auto in = Upload(Values());
  EXPECT_DEATH(std::exit(*const_cast<volatile int32_t*>(in.data())), HasSubstr("use-after-poison"));
}

}  // namespace
}  // namespace moed::cuda_host
