// What a request does to single logits before one is drawn: steps 1 to 4 of SamplingRow
// (kernels/backend.h).
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampled_row.h"

namespace moed::cuda {

struct AdjustLogitsParams {
  const SampledRow* rows = nullptr;        // [num_rows]
  const TokenListPiece* pieces = nullptr;  // [num_pieces], no two of one row
  const uint32_t* words = nullptr;         // the pieces' items
  int64_t num_pieces = 0;                  // > 0
  const float* logits = nullptr;           // [num_rows, vocab]
  int64_t vocab = 0;                       // > 0
  uint32_t* keys = nullptr;                // [slots, vocab], in place but for a row's first piece
};

LaunchError LaunchAdjustLogits(const LaunchContext& context, const AdjustLogitsParams& params);

}  // namespace moed::cuda
