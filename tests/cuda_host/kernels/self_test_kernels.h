// Kernels that try out the emulation itself.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda_host {

using cuda::LaunchContext;
using cuda::LaunchError;

// totals[block] = sum of values[block * threads + i] over the threads i of the block, by a tree in
// shared memory with a barrier a level. threads: a power of two.
LaunchError LaunchTreeSum(const LaunchContext& context, const int* values, int* totals, int blocks,
                          int threads);
// out[i] = sum over the lanes up to i's own in its warp.
LaunchError LaunchPrefixSum(const LaunchContext& context, const int* values, int* out, int threads);

}  // namespace moed::cuda_host
