// Tiled bfloat16 matrix products on tensor cores, for more rows than LaunchStreamGemm is good for.
#pragma once

#include <cstdint>

#include "kernels/cuda/gemm_params.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

// Whether the tiled kernel can compute it: bfloat16, whole 16-byte pieces of rows, and shared
// memory for its tiles. What it cannot, LaunchStreamGemm can, with the same bits.
bool CanTile(const LaunchContext& context, const GemmParams& params);

// WindowRows > 0 and n > 0, and CanTile.
LaunchError LaunchTileGemm(const LaunchContext& context, const GemmParams& params);

// The most floats of partials that any product of at most `rows` rows and `n` weight rows makes use
// of.
int64_t UsefulPartials(int64_t rows, int64_t n);

}  // namespace moed::cuda
