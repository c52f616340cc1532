// A platform without devices, for plugins that tests make.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/gpu_platform.h"

namespace moed {

class FakePlatform final : public GpuPlatform {
 public:
  std::string Description() const override { return "a fake platform"; }
  absl::StatusOr<std::vector<GpuInfo>> ListDevices() override {
    return absl::UnavailableError("a fake platform has no device");
  }
  absl::StatusOr<int64_t> FreeMemoryBytes(int) override {
    return absl::InvalidArgumentError("a fake platform has no device");
  }
  absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const GpuBackendOptions&) override {
    return absl::InvalidArgumentError("a fake platform has no device");
  }
  absl::StatusOr<std::shared_ptr<CommunicatorGroup>> MakeVirtualRankGroup(
      int, int, std::chrono::milliseconds) override {
    return absl::InvalidArgumentError("a fake platform has no device");
  }
};

}  // namespace moed
