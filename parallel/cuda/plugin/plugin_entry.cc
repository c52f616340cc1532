// The one symbol that libmoed_cuda.so shows.
#include <cstdlib>

#include "parallel/cuda/cuda_platform.h"
#include "parallel/cuda/plugin/real_tables.h"
#include "parallel/gpu_plugin.h"

namespace {

moed::GpuPlatform* Create() {
  // Before the first call of the runtime: a kernel that is loaded at its first launch may wait for
  // one that spins. The user's own choice stays.
  setenv("CUDA_MODULE_LOADING", "EAGER", /*overwrite=*/0);
  return moed::cuda::MakeCudaPlatform(moed::cuda::RealCudaApi(), &moed::cuda::RealGemmApi())
      .release();
}

constexpr moed::GpuPluginEntry kEntry = {
    .abi = moed::kGpuPluginAbi, .version = MOED_VERSION, .create = Create};

}  // namespace

extern "C" __attribute__((visibility("default"))) const moed::GpuPluginEntry* moed_gpu_plugin() {
  return &kEntry;
}
