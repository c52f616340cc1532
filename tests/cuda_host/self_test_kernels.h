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

// out[i] = how many of the threads that did not return before the barrier gave an odd value; those
// from `leave_from` on return, and write nothing.
LaunchError LaunchCountOdd(const LaunchContext& context, const int* values, int* out, int threads,
                           int leave_from);

// By each half of a warp by itself, in a loop as often as the half's number + 1 says:
// out[i] = votes of the half for an odd value, as bits | its largest value << 16.
LaunchError LaunchHalfWarps(const LaunchContext& context, const int* values, int* out);

// order[i] = the block that was the i-th to take a ticket; tickets[0] starts at 0. `grid`: blocks
// along x, y and z; the id counts x first.
struct GridShape {
  int x, y, z;
};
LaunchError LaunchTakeTickets(const LaunchContext& context, const GridShape& grid,
                              unsigned* tickets, int* order);

// sums[0] += i, sums[1] = min, sums[2] = max over all threads i, sums[3] ^= i; long_sum[0] += i
// << 32.
LaunchError LaunchAtomics(const LaunchContext& context, int blocks, int threads, int* sums,
                          unsigned long long* long_sum);

// d[16, 8] = a[16, 16] b[8, 16]^T, bfloat16 (as bits) and float, by one warp.
LaunchError LaunchProduct(const LaunchContext& context, const uint16_t* a, const uint16_t* b,
                          float* d);

// Thread 0 waits, in a loop, for a flag that the last thread raises; out[0] = 1.
LaunchError LaunchSpin(const LaunchContext& context, int threads, int* flag, int* out);

// Nothing but `barriers` times __syncthreads.
LaunchError LaunchBarriers(const LaunchContext& context, int blocks, int threads, int barriers);

// out[0] = 1 by one thread, launched with this configuration, whatever it is.
LaunchError LaunchAnything(const LaunchContext& context, const GridShape& grid,
                           const GridShape& block, int64_t shared_bytes, int* out);

}  // namespace moed::cuda_host
