// The CUDA plugin on the stand-ins: what libmoed_cuda.so is, but for its tables and what its
// kernels run on. Settings from the environment:
//
// MOED_CUDA_HOST_MEMORY: bytes of the device.
//
// MOED_CUDA_HOST_COMPUTE: its compute capability, 75 for 7.5.
//
// MOED_CUDA_HOST_DRIVER_ERROR: what the runtime answers when asked for devices; 35: no driver.
//
// MOED_CUDA_HOST_FAIL: "launch_kernel:300:719": from the 300th launch on every call fails with 719,
// as after a fault on a device. Any function of CudaApi may stand there.
//
// MOED_CUDA_HOST_LAUNCH_LOG: a file, written when the process ends: a line "COUNT KERNEL" for every
// kernel of the build, 0 for one that was never launched.
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "kernels/core/check.h"
#include "parallel/cuda/cuda_platform.h"
#include "parallel/gpu_plugin.h"
#include "tests/cuda_host/host_cuda.h"
#include "tests/cuda_host/host_gemm.h"
#include "tests/cuda_host/known_kernels.h"
#include "tests/cuda_host/launch_log.h"

namespace moed::cuda_host {
namespace {

int64_t NumberFrom(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoll(text);
}

// The library is never closed: gone when the process ends.
struct LogWriter {
  ~LogWriter() {
    const char* path = std::getenv("MOED_CUDA_HOST_LAUNCH_LOG");
    if (path == nullptr) return;
    std::map<std::string, int64_t> counts = LaunchCounts();
    for (const std::string& kernel : KnownKernels()) counts.try_emplace(kernel, 0);
    std::ofstream file(path);
    for (const auto& [kernel, count] : counts) file << count << ' ' << kernel << '\n';
  }
};

void PlantFailure() {
  const char* text = std::getenv("MOED_CUDA_HOST_FAIL");
  if (text == nullptr) return;
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  int nth = 0;
  int error = 0;
  MOED_CHECK(
      parts.size() == 3 && absl::SimpleAtoi(parts[1], &nth) && absl::SimpleAtoi(parts[2], &error),
      "MOED_CUDA_HOST_FAIL must be FUNCTION:N:ERROR");
  FailCall(parts[0], nth, error, /*sticky=*/true);
}

GpuPlatform* Create() {
  static const LogWriter log_writer;
  static const bool is_set = [] {
    DeviceSettings settings;
    settings.total_memory_bytes = NumberFrom("MOED_CUDA_HOST_MEMORY", settings.total_memory_bytes);
    settings.driver_error =
        static_cast<int>(NumberFrom("MOED_CUDA_HOST_DRIVER_ERROR", cuda::kCudaSuccess));
    const auto compute = static_cast<int>(
        NumberFrom("MOED_CUDA_HOST_COMPUTE", settings.major * 10 + settings.minor));
    settings.major = compute / 10;
    settings.minor = compute % 10;
    SetDevice(settings);
    PlantFailure();
    return true;
  }();
  static_cast<void>(is_set);
  return cuda::MakeCudaPlatform(HostCudaApi(), &HostGemmApi()).release();
}

constexpr GpuPluginEntry kEntry = {
    .abi = kGpuPluginAbi, .version = "of the tests", .create = Create};

}  // namespace
}  // namespace moed::cuda_host

extern "C" __attribute__((visibility("default"))) const moed::GpuPluginEntry* moed_gpu_plugin() {
  return &moed::cuda_host::kEntry;
}
