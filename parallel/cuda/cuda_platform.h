// CUDA devices as the daemon sees them.
#pragma once

#include <memory>

#include "kernels/cuda/cuda_api.h"
#include "kernels/cuda/gemm_api.h"
#include "parallel/gpu_platform.h"

namespace moed::cuda {

// The tables outlive the platform and all that it makes; `gemm_api` may be null. Calls nothing yet.
std::unique_ptr<GpuPlatform> MakeCudaPlatform(const CudaApi& api, const GemmApi* gemm_api);

}  // namespace moed::cuda
