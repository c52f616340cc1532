// What a kernel file needs of CUDA. nvcc compiles it for the device; g++ compiles the same file as
// plain C++ for the CPU, with the emulation of tests/cuda_host included ahead of it. So a kernel
// uses no more of CUDA than that header knows, and reaches instructions of its own (PTX) through
// small wrappers with a branch for each, as kernels/cuda/mma.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/core/float_types.h"
#include "kernels/cuda/launch.h"

#if defined(__CUDACC__)

#include <cuda_runtime.h>

// `T* name`: the block's dynamic shared memory, 128-byte aligned, not zeroed.
#define MOED_DYNAMIC_SHARED(T, name)                                    \
  extern __shared__ __align__(128) unsigned char moed_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(moed_dynamic_shared)

namespace moed::cuda {

template <typename... Parameters, typename... Arguments>
LaunchError LaunchKernel(const LaunchContext& context, void (*kernel)(Parameters...), dim3 grid,
                         dim3 block, size_t shared_bytes, const Arguments&... arguments) {
  // Without asking a block has 48 KiB, of which static shared memory takes up to 16 in our kernels.
  // Ranks that are threads set it for the same kernel: its size follows from the model alone.
  constexpr size_t kWithoutAsking = 32 * 1024;
  if (shared_bytes > kWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) {
      cudaGetLastError();  // or the next launch would report it again
      return error;
    }
  }
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(context.stream)>>>(arguments...);
  return cudaGetLastError();
}

}  // namespace moed::cuda

// LaunchError of kernel<<<grid, block, shared_bytes>>>(...) on the context's stream. A kernel with
// template arguments stands in parentheses. Arguments are copied. Grid and block are not empty.
#define MOED_LAUNCH(context, kernel, grid, block, shared_bytes, ...) \
  ::moed::cuda::LaunchKernel(context, kernel, grid, block, shared_bytes, __VA_ARGS__)

#elif !defined(MOED_CUDA_HOST)
#error "kernels are compiled by nvcc, or with tests/cuda_host/cuda_host.h included ahead of them"
#endif
