// Launcher of the index of static slots. Contract: IndexStaticSlotsArgs in kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct IndexStaticSlotsParams {
  const int32_t* topk_ids = nullptr;        // [num_tokens, top_k]
  const int32_t* rank_of_expert = nullptr;  // [num_experts]
  int32_t* contribution_index = nullptr;    // [num_tokens, top_k]
  int64_t num_tokens = 0;                   // > 0; times top_k below 2^31
  int64_t top_k = 0;                        // > 0
  int64_t padded_rows = 0;
  int64_t slots_per_row = 0;
};

LaunchError LaunchIndexStaticSlots(const LaunchContext& context,
                                   const IndexStaticSlotsParams& params);

}  // namespace moed::cuda
