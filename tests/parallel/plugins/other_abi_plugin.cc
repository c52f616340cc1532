// Of another release: nothing past the first two fields may be looked at.
#include "parallel/gpu_plugin.h"

extern "C" const moed::GpuPluginEntry* moed_gpu_plugin() {
  static constexpr moed::GpuPluginEntry kEntry = {
      .abi = moed::kGpuPluginAbi + 7, .version = "9.8.7", .create = nullptr};
  return &kEntry;
}
