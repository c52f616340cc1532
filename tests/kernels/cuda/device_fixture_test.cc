#include "tests/kernels/cuda/device_fixture.h"

#include "gmock/gmock.h"

namespace moed::cuda {
namespace {

using testing::Each;
using testing::ElementsAre;

using DeviceFixtureTest = DeviceTest;

TEST_F(DeviceFixtureTest, ValuesGoToTheDeviceAndBack) {
  const DeviceArray<int32_t> array = Upload<int32_t>({3, 1, 4});
  EXPECT_THAT(Download(array), ElementsAre(3, 1, 4));
}

TEST_F(DeviceFixtureTest, MemoryThatNobodyWroteShows) {
  EXPECT_THAT(Download(Make<int32_t>(5)), Each(static_cast<int32_t>(0xCDCDCDCD)));
}

TEST_F(DeviceFixtureTest, EmptyArraysGoThereAndBack) {
  EXPECT_TRUE(Download(Upload<float>({})).empty());
}

}  // namespace
}  // namespace moed::cuda
