// Where the ranks compute: the processor, or a GPU behind its plugin.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "parallel/gpu_platform.h"
#include "server/app/daemon_options.h"

namespace moed {

struct ComputeDevice {
  std::shared_ptr<GpuPlatform> gpu;  // null: the processor
  GpuInfo gpu_info;                  // of --gpu-device
  int64_t free_memory_bytes = 0;     // of it
  std::string reason;                // for the start log: what was chosen, and why

  bool is_gpu() const { return gpu != nullptr; }
};

// As --device, --gpu-plugin, --gpu-device and --cpu-isa say. Of `cuda`: RESOURCE_EXHAUSTED with the
// reason where there is no plugin, driver or such device, or one that is too old for the kernels.
// Of `auto`: the processor instead, but for a driver that is there and fails (INTERNAL).
absl::StatusOr<ComputeDevice> ChooseDevice(const DaemonOptions& options);

struct EmulatedRankOption {
  int rank = 0;
  int num_ranks = 1;
};

// "3/8", or empty for none. INVALID_ARGUMENT unless 0 <= rank < ranks <= 1024.
absl::StatusOr<std::optional<EmulatedRankOption>> ParseEmulatedRank(absl::string_view text);

}  // namespace moed
