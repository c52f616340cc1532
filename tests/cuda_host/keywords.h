// CUDA's words for functions and variables, as g++ can take them.
#pragma once

// NOLINTBEGIN(bugprone-reserved-identifier)
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) alignas(bytes)

// Shared memory. An operating-system thread runs one block at a time, so what is local to that
// thread is local to the block. AddressSanitizer puts red zones round plain statics only: there one
// block runs at a time in the whole process.
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif
// NOLINTEND(bugprone-reserved-identifier)
