// Matrix products that stream the weights straight from memory into registers: for few rows, and
// for any shape at all.
#pragma once

#include "kernels/cuda/gemm_params.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

// Rows beyond which another kernel reads the weights less often.
inline constexpr int64_t kMaxStreamRows = 32;

// WindowRows > 0 and n > 0; any k, any alignment.
LaunchError LaunchStreamGemm(const LaunchContext& context, const GemmParams& params);

}  // namespace moed::cuda
