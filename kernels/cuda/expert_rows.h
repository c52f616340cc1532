// The row-wise parts of an expert whose products the library computes: rows [first, first +
// num_rows) of the pairs, of which those at or past *num_pairs do not exist.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct ExpertRowsParams {
  const int32_t* num_pairs = nullptr;  // [1] on the device
  int64_t first = 0;
  int64_t num_rows = 0;            // > 0
  const int32_t* index = nullptr;  // [first + num_rows]
  bool is_bfloat16 = false;        // act
};

// packed[i] = x[index[first + i]], zeros for pairs that do not exist. Rows of `width` > 0 act.
LaunchError LaunchGatherPairs(const LaunchContext& context, const ExpertRowsParams& rows,
                              const void* x, int64_t width, void* packed);
// out[index[first + i]] = packed[i].
LaunchError LaunchScatterPairs(const LaunchContext& context, const ExpertRowsParams& rows,
                               const void* packed, int64_t width, void* out);

// inner[r][f] = silu(gate) * up from gate_up [num_rows, InterleavedRows(ffn)] float32, rounded to
// act. num_rows > 0 and ffn > 0.
LaunchError LaunchSwiGlu(const LaunchContext& context, const float* gate_up, int64_t num_rows,
                         int64_t ffn, bool is_bfloat16, void* inner);

}  // namespace moed::cuda
