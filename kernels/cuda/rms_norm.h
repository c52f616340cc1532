// Launcher of the RMSNorm kernel. Contract: RmsNormArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct RmsNormParams {
  const float* x = nullptr;            // [num_x_rows, hidden]
  const int32_t* row_index = nullptr;  // [num_rows]; null: row r is row r of x
  const float* weight = nullptr;       // [hidden]
  void* out = nullptr;                 // [num_rows, hidden] act
  int64_t num_rows = 0;                // > 0
  int64_t hidden = 0;                  // > 0
  float epsilon = 0;
  DType act = DType::kFloat32;
};

LaunchError LaunchRmsNorm(const LaunchContext& context, const RmsNormParams& params);

}  // namespace moed::cuda
