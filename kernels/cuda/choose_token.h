// Which token a row gets: steps 5 and 6 of SamplingRow (kernels/backend.h).
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampled_row.h"

namespace moed::cuda {

struct ChooseTokenParams {
  const SampledRow* rows = nullptr;  // [num_rows]
  const float* logits = nullptr;     // [num_rows, vocab]
  const uint32_t* keys = nullptr;    // [slots, vocab]: SampledRow::keys_slot
  int64_t num_rows = 0;              // > 0
  int64_t vocab = 0;                 // > 0
  bool any_draws = false;            // a row has a temperature above 0
  int32_t* token_ids = nullptr;      // [num_rows]
  int32_t* last_sampled = nullptr;   // [num_slots]
};

LaunchError LaunchChooseToken(const LaunchContext& context, const ChooseTokenParams& params);

}  // namespace moed::cuda
