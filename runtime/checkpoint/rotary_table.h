// The angles of the rotary embedding, as cosines and sines.
#pragma once

#include "absl/status/statusor.h"
#include "kernels/core/buffer.h"
#include "runtime/checkpoint/model_config.h"

namespace moed {

// [max_positions, head_dim] float32 in host memory: a row is the cosines of head_dim / 2 angles,
// then their sines. The angle of position p and pair i is
// p * rope_position_scale * rope_theta^(-2 i / head_dim) (Su et al. 2021, section 3.2), computed in
// double. RESOURCE_EXHAUSTED when it does not fit.
absl::StatusOr<Buffer> MakeRotaryTable(const ModelConfig& config);

}  // namespace moed
