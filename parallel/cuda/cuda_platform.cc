#include "parallel/cuda/cuda_platform.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_stream.h"
#include "parallel/cuda/virtual_rank_communicator.h"

namespace moed::cuda {
namespace {

constexpr char kVisibleDevices[] = "CUDA_VISIBLE_DEVICES";
constexpr char kOrUseTheCpu[] = ", or run with --device cpu";

struct Versions {
  int driver = 0;  // of CUDA that it serves, as 13000; 0: no driver
  int runtime = 0;
};

// "13.0" for 13000.
std::string CudaVersion(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

// "13.1.0" for 130100.
std::string GemmVersion(int64_t version) {
  return absl::StrCat(version / 10'000, ".", version / 100 % 100, ".", version % 100);
}

absl::Status NoUsableDriver(const Versions& versions) {
  if (versions.driver == 0) {
    return absl::UnavailableError(
        absl::StrCat("this machine has no NVIDIA driver: install one that serves CUDA ",
                     CudaVersion(versions.runtime),
                     " or later (a container must be started with its GPUs)", kOrUseTheCpu));
  }
  return absl::UnavailableError(absl::StrCat(
      "the NVIDIA driver is too old: it serves CUDA ", CudaVersion(versions.driver), ", and CUDA ",
      CudaVersion(versions.runtime), " is needed: install a newer driver", kOrUseTheCpu));
}

absl::Status NoDevice() {
  const char* visible = std::getenv(kVisibleDevices);
  if (visible != nullptr) {
    return absl::UnavailableError(
        absl::StrCat("the NVIDIA driver shows no device: ", kVisibleDevices, " is \"", visible,
                     "\": name an existing one there or unset it", kOrUseTheCpu));
  }
  return absl::UnavailableError(absl::StrCat(
      "the NVIDIA driver finds no device: check nvidia-smi (a container must be started with its "
      "GPUs)",
      kOrUseTheCpu));
}

class CudaPlatform final : public GpuPlatform {
 public:
  CudaPlatform(const CudaApi& api, const GemmApi* gemm_api) : api_(api), gemm_api_(gemm_api) {}

  std::string Description() const override {
    const Versions versions = GetVersions();
    std::string text = absl::StrCat("CUDA ", CudaVersion(versions.runtime), ", ");
    if (versions.driver == 0) {
      absl::StrAppend(&text, "no driver");
    } else {
      absl::StrAppend(&text, "driver for CUDA ", CudaVersion(versions.driver));
    }
    if (gemm_api_ == nullptr) return absl::StrCat(text, ", without cuBLASLt");
    return absl::StrCat(text, ", cuBLASLt ", GemmVersion(gemm_api_->version()));
  }

  absl::StatusOr<std::vector<GpuInfo>> ListDevices() override {
    MOED_ASSIGN_OR_RETURN(const int count, CountDevices());
    std::vector<GpuInfo> devices;
    for (int device = 0; device < count; ++device) {
      CudaDeviceInfo found;
      MOED_RETURN_IF_ERROR(CudaStatus(api_, api_.describe_device(device, &found),
                                      "asking for the device's properties"));
      GpuInfo info;
      info.device = device;
      info.name = found.name;
      info.architecture = absl::StrCat("sm_", found.major, found.minor);
      info.total_memory_bytes = found.total_memory_bytes;
      info.unusable = WhyUnusable(found);
      devices.push_back(std::move(info));
    }
    return devices;
  }

  absl::StatusOr<int64_t> FreeMemoryBytes(int device) override {
    // What is free is known of the thread's current device only.
    MOED_RETURN_IF_ERROR(CudaStatus(api_, api_.set_device(device), "choosing the device"));
    int64_t free_bytes = 0;
    int64_t total_bytes = 0;
    MOED_RETURN_IF_ERROR(CudaStatus(api_, api_.get_memory(&free_bytes, &total_bytes),
                                    "asking for the device's memory"));
    return free_bytes;
  }

  absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const GpuBackendOptions& options) override {
    CudaBackendOptions cuda_options;
    cuda_options.api = &api_;
    cuda_options.gemm_api = gemm_api_;
    cuda_options.device = options.device;
    cuda_options.activation_dtype = options.activation_dtype;
    cuda_options.deterministic = options.deterministic;
    return MakeCudaBackend(cuda_options);
  }

  absl::StatusOr<std::shared_ptr<CommunicatorGroup>> MakeVirtualRankGroup(
      int num_ranks, int device, std::chrono::milliseconds deadline) override {
    VirtualRankGroupOptions options;
    options.api = &api_;
    options.device = device;
    options.deadline = deadline;
    return VirtualRankGroup::Create(num_ranks, options);
  }

 private:
  Versions GetVersions() const {
    Versions versions;
    // Of a failure nothing is known but zeros.
    if (api_.get_versions(&versions.driver, &versions.runtime) != kCudaSuccess) versions.driver = 0;
    return versions;
  }

  absl::StatusOr<int> CountDevices() const {
    int count = 0;
    const CudaError error = api_.get_device_count(&count);
    if (error == kCudaErrorInsufficientDriver) return NoUsableDriver(GetVersions());
    if (error == kCudaErrorNoDevice || (error == kCudaSuccess && count == 0)) return NoDevice();
    if (error != kCudaSuccess) {
      return absl::InternalError(CudaStatus(api_, error, "counting the devices").message());
    }
    return count;
  }

  const CudaApi& api_;
  const GemmApi* const gemm_api_;
};

}  // namespace

std::unique_ptr<GpuPlatform> MakeCudaPlatform(const CudaApi& api, const GemmApi* gemm_api) {
  return std::make_unique<CudaPlatform>(api, gemm_api);
}

}  // namespace moed::cuda
