// Scratch memory of the matrix products, sized once.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/cuda/cuda_memory.h"

namespace moed::cuda {

// More pairs than this are computed in passes: enough for each pass to be bound by arithmetic, few
// enough for the scratch memory (235 MB in bfloat16 at Mixtral's ffn).
inline constexpr int64_t kPairsPerPass = 8192;

// Pairs of one expert that go through the library at once; fewer are not worth its detour through
// memory.
inline constexpr int64_t kLibraryPairs = 1024;

struct GemmWorkspace {
  Buffer partials;  // float32 sums of slices (gemm_params.h)
  Buffer inner;     // [pairs_per_pass, ffn] act, between an expert's two products
  int64_t pairs_per_pass = 0;
  int64_t ffn = 0;

  // For one expert of many pairs, only with a library: as many as library_pairs at once.
  Buffer gathered;  // [library_pairs, hidden] act: the expert's rows, then its results
  Buffer gate_up;   // [library_pairs, InterleavedRows(ffn)] float32
  int64_t library_pairs = 0;
};

// Outputs of the product that makes query, key and value.
int64_t QkvWidth(const WorkspaceLimits& limits);

// What MakeGemmWorkspace allocates.
int64_t GemmWorkspaceBytes(const WorkspaceLimits& limits, DType act, bool has_library);

// RESOURCE_EXHAUSTED where the limits need more than there is.
absl::StatusOr<GemmWorkspace> MakeGemmWorkspace(CudaMemory& memory, const WorkspaceLimits& limits,
                                                DType act, bool has_library);

// What the library may use: 32 MiB, as NVIDIA recommends for Hopper, but no more than the largest
// weight, so that small models stay small.
int64_t LibraryWorkspaceBytes(const WorkspaceLimits& limits, DType act);

}  // namespace moed::cuda
