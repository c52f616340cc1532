// Time between two points of a stream, by events.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_api.h"

namespace moed::cuda {

// A timer whose events cannot be created measures 0.
std::unique_ptr<StreamTimer> MakeCudaTimer(const CudaApi& api);

}  // namespace moed::cuda
