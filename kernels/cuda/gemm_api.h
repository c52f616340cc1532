// cuBLASLt as the backend sees it: one table of functions, so that tests can put loops in its
// place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/core/dtype.h"

namespace moed::cuda {

// cublasStatus_t; 0 is success.
using GemmError = int;

// out[m, n] = x[m, k] weight[n, k]^T, all row-major and dense, or out += where `accumulate`. To
// cuBLASLt, which counts by columns, it is D(n x m) = W^T(n x k) X(k x m): form TN.
struct GemmShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  DType in_dtype = DType::kBFloat16;  // of x and weight; float32 is never computed as TF32
  DType out_dtype = DType::kFloat32;  // float32 or in_dtype
  bool accumulate = false;            // float32 only
};

// An algorithm's own description, kept by value; only the table reads it.
struct GemmAlgorithm {
  std::array<uint64_t, 8> data{};
  int64_t workspace_bytes = 0;
};

// Functions that may be called from any thread, but for one handle at a time.
struct GemmApi {
  GemmError (*create)(void** handle);  // cublasLtCreate
  GemmError (*destroy)(void* handle);
  // Writes at most `max_algorithms`, the heuristic's best first, and how many; 0 of them is no
  // error. They use no more workspace than given (cublasLtMatmulAlgoGetHeuristic).
  GemmError (*find_algorithms)(void* handle, const GemmShape& shape, int64_t max_workspace_bytes,
                               int max_algorithms, GemmAlgorithm* algorithms, int* num_algorithms);
  // Whether the algorithm can compute this shape (cublasLtMatmulAlgoCheck); another m than the one
  // it was found for is what this is for.
  bool (*is_usable)(void* handle, const GemmShape& shape, const GemmAlgorithm& algorithm,
                    int64_t max_workspace_bytes);
  // Enqueues the product on `stream` (cublasLtMatmul).
  GemmError (*multiply)(void* handle, const GemmShape& shape, const GemmAlgorithm& algorithm,
                        const void* x, const void* weight, void* out, void* workspace,
                        int64_t workspace_bytes, void* stream);
  int64_t (*version)();                        // cublasLtGetVersion: 130100
  const char* (*error_name)(GemmError error);  // "CUBLAS_STATUS_NOT_SUPPORTED"
};

}  // namespace moed::cuda
