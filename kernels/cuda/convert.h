// Launcher of the kernel that changes the dtype of a tensor.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

// to[i] = from[i], rounded to nearest even; the bits that the CPU makes.
struct ConvertParams {
  const void* from = nullptr;          // [count]
  void* to = nullptr;                  // [count]
  int64_t count = 0;                   // > 0
  DType from_dtype = DType::kFloat32;  // kFloat32, kBFloat16 or kFloat16
  DType to_dtype = DType::kFloat32;    // kFloat32 or kBFloat16
};

LaunchError LaunchConvert(const LaunchContext& context, const ConvertParams& params);

}  // namespace moed::cuda
