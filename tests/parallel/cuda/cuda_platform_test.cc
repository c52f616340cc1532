#include "parallel/cuda/cuda_platform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "tests/cuda_host/host_cuda.h"

namespace moed::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr CudaError kDevicesUnavailable = 46;  // busy, in exclusive mode

int driver_version = 13000;

class CudaPlatformTest : public ::testing::Test {
 protected:
  CudaPlatformTest() : api_(cuda_host::HostCudaApi()) {
    driver_version = 13000;
    unsetenv("CUDA_VISIBLE_DEVICES");
    api_.get_versions = [](int* driver, int* runtime) -> CudaError {
      *driver = driver_version;
      *runtime = 13000;
      return kCudaSuccess;
    };
    platform_ = MakeCudaPlatform(api_, nullptr);
  }
  ~CudaPlatformTest() override {
    cuda_host::SetDevice();
    unsetenv("CUDA_VISIBLE_DEVICES");
  }

  std::string WhyNone(CudaError error, absl::StatusCode code = absl::StatusCode::kUnavailable) {
    cuda_host::DeviceSettings settings;
    settings.driver_error = error;
    cuda_host::SetDevice(settings);
    const absl::Status status = platform_->ListDevices().status();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  }

  CudaApi api_;
  std::unique_ptr<GpuPlatform> platform_;
};

TEST_F(CudaPlatformTest, ListsEveryDeviceWithItsMemory) {
  cuda_host::DeviceSettings settings;
  settings.num_devices = 2;
  settings.total_memory_bytes = int64_t{8} << 30;
  cuda_host::SetDevice(settings);
  const auto devices = platform_->ListDevices();
  ASSERT_TRUE(devices.ok()) << devices.status();
  ASSERT_EQ(devices->size(), 2U);
  EXPECT_EQ((*devices)[1].device, 1);
  EXPECT_EQ((*devices)[1].name, "host emulation");
  EXPECT_EQ((*devices)[1].architecture, "sm_90");
  EXPECT_EQ((*devices)[1].total_memory_bytes, int64_t{8} << 30);
  EXPECT_EQ((*devices)[1].unusable, "");
}

// A context takes memory of its device for as long as the process lives, and may be refused: one of
// eight, which belongs to somebody else, must not end a start on another.
TEST_F(CudaPlatformTest, TakesHoldOfNoDeviceBeforeItIsChosen) {
  cuda_host::DeviceSettings settings;
  settings.num_devices = 3;
  cuda_host::SetDevice(settings);
  cuda_host::ResetCudaCallCounts();
  ASSERT_EQ(platform_->ListDevices()->size(), 3U);
  for (const char* call : {"set_device", "get_memory", "allocate", "create_stream"}) {
    EXPECT_EQ(cuda_host::CudaCallCounts().count(call), 0U) << call;
  }
  EXPECT_EQ(*platform_->FreeMemoryBytes(2), settings.total_memory_bytes);
  EXPECT_EQ(cuda_host::CudaCallCounts().at("set_device"), 1);

  cuda_host::FailCall("set_device", 1, kDevicesUnavailable);
  EXPECT_THAT(std::string(platform_->FreeMemoryBytes(2).status().message()),
              HasSubstr("choosing the device"));
}

TEST_F(CudaPlatformTest, ADeviceThatIsTooOldIsListedWithTheReason) {
  cuda_host::DeviceSettings settings;
  settings.major = 7;
  settings.minor = 5;
  cuda_host::SetDevice(settings);
  const std::string unusable = platform_->ListDevices().value().at(0).unusable;
  EXPECT_THAT(unusable, HasSubstr("compute capability 7.5; the kernels need 8.0"));
  EXPECT_THAT(std::string(platform_->MakeBackend({}).status().message()), HasSubstr(unusable));
}

TEST_F(CudaPlatformTest, DescribesItsLibraries) {
  EXPECT_EQ(platform_->Description(), "CUDA 13.0, driver for CUDA 13.0, without cuBLASLt");
  driver_version = 0;
  EXPECT_EQ(platform_->Description(), "CUDA 13.0, no driver, without cuBLASLt");
}

TEST_F(CudaPlatformTest, AMachineWithoutADriverIsToldToInstallOne) {
  driver_version = 0;
  EXPECT_THAT(WhyNone(kCudaErrorInsufficientDriver),
              AllOf(HasSubstr("no NVIDIA driver: install one that serves CUDA 13.0"),
                    HasSubstr("--device cpu")));
}

TEST_F(CudaPlatformTest, ADriverThatIsTooOldIsToldWithBothVersions) {
  driver_version = 12020;
  EXPECT_THAT(WhyNone(kCudaErrorInsufficientDriver),
              HasSubstr("too old: it serves CUDA 12.2, and CUDA 13.0 is needed"));
}

TEST_F(CudaPlatformTest, NoDeviceIsToldApartFromDevicesThatAreHidden) {
  EXPECT_THAT(WhyNone(kCudaErrorNoDevice), HasSubstr("finds no device: check nvidia-smi"));
  setenv("CUDA_VISIBLE_DEVICES", "7", 1);
  EXPECT_THAT(WhyNone(kCudaErrorNoDevice), HasSubstr("CUDA_VISIBLE_DEVICES is \"7\""));
}

TEST_F(CudaPlatformTest, AnyOtherFaultOfTheDriverIsInternal) {
  EXPECT_THAT(WhyNone(719, absl::StatusCode::kInternal), HasSubstr("cudaErrorLaunchFailure (719)"));
  EXPECT_THAT(WhyNone(kCudaErrorMemoryAllocation, absl::StatusCode::kInternal),
              HasSubstr("cudaErrorMemoryAllocation"));
}

TEST_F(CudaPlatformTest, GroupsOfVirtualRanksHaveTheirDeadlineChecked) {
  EXPECT_EQ(
      platform_->MakeVirtualRankGroup(2, 0, std::chrono::milliseconds(5)).value()->num_ranks(), 2);
  EXPECT_EQ(platform_->MakeVirtualRankGroup(2, 0, std::chrono::milliseconds(0)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(platform_->MakeVirtualRankGroup(2, 9, std::chrono::milliseconds(5)).status().code(),
            absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace moed::cuda
