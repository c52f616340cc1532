// What MOED_LAUNCH is in the emulation: the call, with copies of its arguments, is put on the
// stream and runs when somebody waits for it.
#pragma once

#include <cstddef>
#include <functional>
#include <tuple>
#include <utility>

#include "kernels/cuda/launch.h"
#include "tests/cuda_host/vector_types.h"

namespace moed::cuda_host {

struct KernelCall {
  const char* expression = "";  // the kernel as MOED_LAUNCH was given it
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;       // dynamic
  std::function<void()> thread;  // what each thread runs
};

// cudaErrorInvalidConfiguration (9) where CUDA says so.
cuda::LaunchError EnqueueKernel(void* stream, KernelCall call);

template <typename... Parameters, typename... Arguments>
cuda::LaunchError LaunchKernel(const char* expression, const cuda::LaunchContext& context,
                               void (*kernel)(Parameters...), dim3 grid, dim3 block,
                               size_t shared_bytes, const Arguments&... arguments) {
  return EnqueueKernel(context.stream, {expression, grid, block, shared_bytes,
                                        [kernel, copies = std::tuple<Parameters...>(arguments...)] {
                                          std::apply(kernel, copies);
                                        }});
}

}  // namespace moed::cuda_host

#define MOED_LAUNCH(context, kernel, grid, block, shared_bytes, ...)     \
  ::moed::cuda_host::LaunchKernel(#kernel, context, kernel, grid, block, \
                                  shared_bytes __VA_OPT__(, ) __VA_ARGS__)
