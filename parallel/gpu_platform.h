// What a GPU plugin gives the daemon: devices for ranks to run on. The plugin alone links a
// vendor's libraries; the daemon sees this class and the seams behind it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/dtype.h"
#include "parallel/communicator_group.h"

namespace moed {

struct GpuInfo {
  int device = 0;  // as the vendor counts
  std::string name;
  std::string architecture;  // "sm_90"
  int64_t total_memory_bytes = 0;
  std::string unusable;  // why the kernels cannot run on it: "has compute ..."; empty: they can
};

struct GpuBackendOptions {
  int device = 0;
  DType activation_dtype = DType::kBFloat16;
  bool deterministic = false;  // CudaBackendOptions
};

// Thread-safe. Outlives what it makes.
class GpuPlatform {
 public:
  virtual ~GpuPlatform() = default;

  // One line for the start log: libraries and versions.
  virtual std::string Description() const = 0;

  // At least one device. Takes hold of none: on a machine with eight, seven may be others' own.
  // UNAVAILABLE with the reason where the machine has no driver, one that is too old, or no device;
  // INTERNAL for any other fault of the driver.
  virtual absl::StatusOr<std::vector<GpuInfo>> ListDevices() = 0;

  // What nobody has of one of them. Takes hold of it: the driver's own memory on it is gone
  // already.
  virtual absl::StatusOr<int64_t> FreeMemoryBytes(int device) = 0;

  // INVALID_ARGUMENT for a device that does not exist, FAILED_PRECONDITION for one that is too old.
  virtual absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(
      const GpuBackendOptions& options) = 0;

  // Ranks of this process that share one device: device copies and events between them.
  virtual absl::StatusOr<std::shared_ptr<CommunicatorGroup>> MakeVirtualRankGroup(
      int num_ranks, int device, std::chrono::milliseconds deadline) = 0;
};

}  // namespace moed
