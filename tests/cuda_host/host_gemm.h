// cuBLASLt on host memory: plain loops, put on the stand-in's streams (host_cuda.h).
//
// Like the library, it has several algorithms for a shape, and the same row can get other last bits
// from another one: they add up k in pieces of different lengths, and which comes first depends on
// m. It is strict where the library is: CUBLAS_STATUS_INVALID_VALUE (7) for null or unaligned
// pointers, 16 bytes, and for a workspace that is smaller than the algorithm needs;
// CUBLAS_STATUS_NOT_SUPPORTED (15) for dtypes and shapes that it has no algorithm for. One handle
// used by two threads at once aborts.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "kernels/cuda/gemm_api.h"
#include "tests/cuda_host/host_calls.h"

namespace moed::cuda_host {

const cuda::GemmApi& HostGemmApi();

struct GemmSettings {
  int max_found = 3;  // algorithms of one shape; 0: none is found
  // Rows up to which an algorithm is usable, whatever shape it was found for.
  int64_t max_usable_m = std::numeric_limits<int64_t>::max();
};

// In force at once. Injected failures are forgotten.
void SetGemm(const GemmSettings& settings = {});

// The `nth` call from now (1: the next) of the function of GemmApi with this name does nothing and
// returns `error`.
void FailGemmCall(const std::string& function, int nth, cuda::GemmError error);

// By function, since the program started or the last reset.
CallCounts GemmCallCounts();
void ResetGemmCallCounts();

// Handles that were created and not destroyed.
int CountGemmHandles();

}  // namespace moed::cuda_host
