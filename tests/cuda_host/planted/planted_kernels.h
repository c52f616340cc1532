// Kernels with a fault each, which the emulation must catch. All run in one block.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda_host {

using cuda::LaunchContext;
using cuda::LaunchError;

// out[i] = values[i + 1], out[threads - 1] = values[0], through shared memory. Without the fault
// they are correct.
LaunchError LaunchMissingBarrier(const LaunchContext& context, const int* values, int* out,
                                 int threads, bool with_fault);
// The same in one warp, with a vote where __syncwarp belongs: votes order no memory.
LaunchError LaunchMissingWarpBarrier(const LaunchContext& context, const int* values, int* out,
                                     bool with_fault);

// Writes `count` ints of shared memory that has room for 32, and sums them up.
LaunchError LaunchDynamicSharedOverflow(const LaunchContext& context, int* out, int count);
LaunchError LaunchStaticSharedOverflow(const LaunchContext& context, int* out, int count);

// Threads below 16 wait for the block at one place, the others at another one, or for their warp.
LaunchError LaunchTwoBarriers(const LaunchContext& context, int threads);
LaunchError LaunchBlockAgainstWarp(const LaunchContext& context, int threads);

// A shuffle in which lane 31 takes no part: it leaves itself out of its mask; its neighbour reads
// from it; or it names others under another mask than theirs.
LaunchError LaunchLaneOutsideItsMask(const LaunchContext& context, int* out);
LaunchError LaunchReadOfAbsentLane(const LaunchContext& context, int* out);
LaunchError LaunchMasksThatDiffer(const LaunchContext& context, int* out);

// Copies `rows` rows of `width` ints, or one more.
LaunchError LaunchCopyRows(const LaunchContext& context, const int* in, int* out, int rows,
                           int width, bool with_fault);
// out[0] = in[index].
LaunchError LaunchRead(const LaunchContext& context, const int* in, int64_t index, int* out);

}  // namespace moed::cuda_host
