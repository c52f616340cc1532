// Weights in the checkpoint's dtype to rows of the packed layout.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

enum class PackedPlace : uint8_t { kPlain, kGate, kUp };

struct PackRowsParams {
  const void* from = nullptr;  // [num_rows, width] float32, bfloat16 or float16, device memory
  DType from_dtype = DType::kFloat32;
  void* to = nullptr;        // the whole packed matrix, [.., width] act
  bool is_bfloat16 = false;  // act
  int64_t first_row = 0;     // of `from` in its tensor; kPlain: in the packed matrix
  int64_t num_rows = 0;      // > 0
  int64_t width = 0;         // > 0
  PackedPlace place = PackedPlace::kPlain;
};

// Row r of the tensor goes to row r, or where the interleaved layout (gemm_params.h) has it.
LaunchError LaunchPackRows(const LaunchContext& context, const PackRowsParams& params);

}  // namespace moed::cuda
