#include "server/app/compute_device.h"

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

DaemonOptions WithoutPlugin(const std::string& device) {
  DaemonOptions options;
  options.device = device;
  options.gpu_plugin = "no/such/plugin.so";
  return options;
}

TEST(ComputeDeviceTest, AutoTakesTheProcessorWhereThereIsNoPluginAndSaysWhy) {
  const auto device = ChooseDevice(WithoutPlugin("auto"));
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_FALSE(device->is_gpu());
  EXPECT_THAT(device->reason, StartsWith("device: the CPU, for "));
  EXPECT_THAT(device->reason, HasSubstr("no/such/plugin.so"));
}

TEST(ComputeDeviceTest, CudaWithoutAPluginIsSomethingThatIsMissing) {
  const absl::Status status = ChooseDevice(WithoutPlugin("cuda")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), StartsWith("--device cuda: "));
  EXPECT_THAT(status.message(), HasSubstr("no/such/plugin.so"));
}

TEST(ComputeDeviceTest, AFileThatIsNoPluginIsNamedWithTheLoadersWords) {
  DaemonOptions options = WithoutPlugin("cuda");
  options.gpu_plugin = std::string(MOED_SOURCE_DIR) + "/README.md";
  const absl::Status status = ChooseDevice(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(status.message(), HasSubstr("README.md cannot be loaded"));
  options.device = "auto";
  EXPECT_TRUE(ChooseDevice(options).ok());
}

TEST(ComputeDeviceTest, WhoAsksForTheProcessorGetsIt) {
  auto device = ChooseDevice(WithoutPlugin("cpu"));
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_FALSE(device->is_gpu());
  EXPECT_EQ(device->reason, "device: the CPU, as --device says");

  DaemonOptions options = WithoutPlugin("auto");
  options.cpu_isa = "portable";
  device = ChooseDevice(options);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ(device->reason, "device: the CPU, as --cpu-isa is given");
}

TEST(ComputeDeviceTest, AnEmulatedRankIsGivenWithTheSizeOfItsGroup) {
  const auto option = ParseEmulatedRank("3/8");
  ASSERT_TRUE(option.ok() && option->has_value());
  EXPECT_EQ((*option)->rank, 3);
  EXPECT_EQ((*option)->num_ranks, 8);
  EXPECT_EQ((*ParseEmulatedRank("0/1"))->num_ranks, 1);
  EXPECT_EQ((*ParseEmulatedRank("1023/1024"))->rank, 1023);
  EXPECT_EQ(*ParseEmulatedRank(""), std::nullopt);
}

TEST(ComputeDeviceTest, AnEmulatedRankOutsideItsGroupIsRefused) {
  for (const char* text : {"8/8", "-1/8", "0/0", "0/1025", "3", "/", "3/", "/8", "1/2/3", "a/8",
                           "1/b", "1.5/8", "99999999999/8"}) {
    const absl::Status status = ParseEmulatedRank(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(status.message(), HasSubstr("like 0/8")) << text;
    EXPECT_THAT(status.message(), HasSubstr(text));
  }
}

}  // namespace
}  // namespace moed
