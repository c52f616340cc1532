// Launcher of the kernel that makes weights. Contract: FillSeededArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct FillSeededParams {
  uint64_t key = 0;
  void* out = nullptr;            // [count]
  int64_t count = 0;              // > 0
  DType dtype = DType::kFloat32;  // or kBFloat16
};

LaunchError LaunchFillSeeded(const LaunchContext& context, const FillSeededParams& params);

}  // namespace moed::cuda
