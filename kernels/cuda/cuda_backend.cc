// Which device, and whether it will do.
#include "kernels/cuda/cuda_backend.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {
namespace {

// bfloat16 matrix instructions and asynchronous copies begin with Ampere.
constexpr int kLeastMajor = 8;

absl::StatusOr<CudaDeviceInfo> CheckDevice(const CudaApi& api, int device) {
  int count = 0;
  MOED_RETURN_IF_ERROR(CudaStatus(api, api.get_device_count(&count), "counting the devices"));
  if (device < 0 || device >= count) {
    return absl::InvalidArgumentError(absl::StrCat(
        "there is no CUDA device ", device, ": the machine has ", count, ", counted from 0"));
  }
  CudaDeviceInfo info;
  MOED_RETURN_IF_ERROR(
      CudaStatus(api, api.describe_device(device, &info), "asking for the device's properties"));
  const std::string unusable = WhyUnusable(info);
  if (!unusable.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("CUDA device ", device, " (", info.name, ") ", unusable));
  }
  return info;
}

}  // namespace

std::string WhyUnusable(const CudaDeviceInfo& device) {
  if (device.major >= kLeastMajor) return "";
  return absl::StrCat("has compute capability ", device.major, ".", device.minor,
                      "; the kernels need ", kLeastMajor, ".0 (Ampere) or later");
}

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options) {
  MOED_CHECK(options.api != nullptr, "a CUDA backend without its table of functions");
  const DType act = options.activation_dtype;
  if (act != DType::kFloat32 && act != DType::kBFloat16) {
    return absl::InvalidArgumentError(
        absl::StrCat("activations on a CUDA device are float32 or bfloat16, not ", DTypeName(act)));
  }
  MOED_ASSIGN_OR_RETURN(const CudaDeviceInfo device, CheckDevice(*options.api, options.device));
  return CudaBackend::Create(options, device);
}

}  // namespace moed::cuda
