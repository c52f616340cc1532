// Launcher of the row copy. Contract: GatherRowsArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct GatherRowsParams {
  const void* x = nullptr;             // [num_x_rows] rows
  const int32_t* row_index = nullptr;  // [num_rows]
  void* out = nullptr;                 // [num_rows] rows
  int64_t num_rows = 0;                // > 0
  int64_t row_bytes = 0;               // > 0, a multiple of 2, as x and out are
};

LaunchError LaunchGatherRows(const LaunchContext& context, const GatherRowsParams& params);

}  // namespace moed::cuda
