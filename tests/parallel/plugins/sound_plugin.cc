#include "parallel/gpu_plugin.h"
#include "tests/parallel/plugins/fake_platform.h"

extern "C" const moed::GpuPluginEntry* moed_gpu_plugin() {
  static constexpr moed::GpuPluginEntry kEntry = {
      .version = "1.2.3", .create = []() -> moed::GpuPlatform* { return new moed::FakePlatform; }};
  return &kEntry;
}
