#include "server/app/compute_device.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/core/status.h"
#include "parallel/gpu_plugin.h"
#include "server/app/start_report.h"

namespace moed {
namespace {

ComputeDevice Processor(absl::string_view reason) {
  ComputeDevice device;
  device.reason = absl::StrCat("device: the CPU, ", reason);
  return device;
}

// No GPU here, which is no fault.
bool IsAbsence(const absl::Status& status) {
  return absl::IsNotFound(status) || absl::IsFailedPrecondition(status) ||
         absl::IsUnavailable(status);
}

absl::StatusOr<ComputeDevice> OpenGpu(const DaemonOptions& options) {
  const std::string path = options.gpu_plugin.empty() ? DefaultGpuPluginPath() : options.gpu_plugin;
  ComputeDevice device;
  MOED_ASSIGN_OR_RETURN(device.gpu, OpenGpuPlugin(path));
  MOED_ASSIGN_OR_RETURN(const std::vector<GpuInfo> gpus, device.gpu->ListDevices());
  for (const GpuInfo& gpu : gpus) {
    if (gpu.device != options.gpu_device) continue;
    if (!gpu.unusable.empty()) {
      return absl::UnavailableError(
          absl::StrCat("device ", gpu.device, " (", gpu.name, ") ", gpu.unusable));
    }
    device.gpu_info = gpu;
    MOED_ASSIGN_OR_RETURN(device.free_memory_bytes, device.gpu->FreeMemoryBytes(gpu.device));
    device.reason =
        absl::StrCat("device: ", gpu.name, " (device ", gpu.device, " of ", gpus.size(), ", ",
                     gpu.architecture, ", ", FormatBytes(device.free_memory_bytes), " of ",
                     FormatBytes(gpu.total_memory_bytes), " free), ", device.gpu->Description());
    if (gpus.size() > 1) {
      absl::StrAppend(&device.reason, "; all ranks share this device, the others are not used");
    }
    return device;
  }
  return absl::UnavailableError(absl::StrCat("--gpu-device ", options.gpu_device,
                                             ": there is no such device, the machine has ",
                                             gpus.size()));
}

}  // namespace

absl::StatusOr<ComputeDevice> ChooseDevice(const DaemonOptions& options) {
  if (options.device == "cpu") return Processor("as --device says");
  if (options.device == "auto" && options.cpu_isa != DaemonOptions().cpu_isa) {
    return Processor("as --cpu-isa is given");
  }
  absl::StatusOr<ComputeDevice> gpu = OpenGpu(options);
  if (gpu.ok() || !IsAbsence(gpu.status())) return gpu;
  if (options.device == "auto") return Processor(absl::StrCat("for ", gpu.status().message()));
  return absl::ResourceExhaustedError(absl::StrCat("--device cuda: ", gpu.status().message()));
}

absl::StatusOr<std::optional<EmulatedRankOption>> ParseEmulatedRank(absl::string_view text) {
  if (text.empty()) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  EmulatedRankOption option;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &option.rank) ||
      !absl::SimpleAtoi(parts[1], &option.num_ranks) || option.rank < 0 ||
      option.rank >= option.num_ranks || option.num_ranks > 1024) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--emulate-rank: expected R/N with 0 <= R < N <= 1024, like 0/8, found ", text));
  }
  return option;
}

}  // namespace moed
