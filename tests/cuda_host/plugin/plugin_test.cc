// The plugins of the build, opened as the daemon opens them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/core/dtype.h"
#include "parallel/gpu_plugin.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

TEST(HostPlugin, HasADeviceThatComputes) {
  const auto platform = OpenGpuPlugin(MOED_CUDA_HOST_PLUGIN);
  ASSERT_TRUE(platform.ok()) << platform.status();
  EXPECT_THAT((*platform)->Description(), HasSubstr("CUDA 13.0"));
  const auto devices = (*platform)->ListDevices();
  ASSERT_TRUE(devices.ok()) << devices.status();
  ASSERT_EQ(devices->size(), 1U);
  GpuBackendOptions options;
  options.activation_dtype = DType::kFloat32;
  const std::unique_ptr<Backend> backend = (*platform)->MakeBackend(options).value();
  const std::unique_ptr<Stream> stream = backend->CreateStream();
  const Buffer memory = backend->Allocate(MemoryKind::kWeights, 400).value();
  const TensorView values = memory.View(DType::kFloat32, {100});
  backend->FillSeeded(*stream, {.key = 3, .out = values});
  std::vector<float> read(100);
  backend->CopyToHost(*stream, values, TensorView(read.data(), DType::kFloat32, {100}));
  ASSERT_TRUE(backend->Synchronize(*stream).ok());
  EXPECT_NE(read[0], read[99]);
}

#if defined(MOED_CUDA_PLUGIN)
// It loads without a driver; then it says what is missing.
TEST(CudaPlugin, LoadsOnAnyMachineAndKnowsWhetherItHasADevice) {
  const auto platform = OpenGpuPlugin(MOED_CUDA_PLUGIN);
  ASSERT_TRUE(platform.ok()) << platform.status();
  EXPECT_THAT((*platform)->Description(), HasSubstr("cuBLASLt"));
  const auto devices = (*platform)->ListDevices();
  if (devices.ok()) {
    EXPECT_FALSE(devices->empty());
    return;
  }
  EXPECT_EQ(devices.status().code(), absl::StatusCode::kUnavailable) << devices.status();
  EXPECT_THAT(std::string(devices.status().message()), HasSubstr("--device cpu"));
}
#endif

}  // namespace
}  // namespace moed
