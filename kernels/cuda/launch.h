// What every launcher of a kernel takes and gives. Plain, for nvcc.
#pragma once

#include <cstdint>

namespace moed::cuda {

// Where and for which device a kernel is launched.
struct LaunchContext {
  void* stream = nullptr;  // cudaStream_t
  int num_sms = 1;
  int64_t max_shared_bytes_per_block = 48 * 1024;
};

// cudaError_t of the launch; 0 is success. Errors while the kernel runs come out of later calls.
using LaunchError = int;

// Blocks of `block` that cover `count`.
constexpr int64_t BlocksFor(int64_t count, int64_t block) { return (count + block - 1) / block; }

}  // namespace moed::cuda
