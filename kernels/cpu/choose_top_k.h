// The router's policy on one row of logits.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace moed {

// The top_k largest of `logits`, ties to the lower id, by falling logit; weights are their softmax.
// A NaN counts as -infinity; where the largest is infinite, the logits equal to it share the weight
// alike. `logits` is spoilt. 0 < top_k <= num_experts.
void ChooseTopK(float* logits, int64_t num_experts, int64_t top_k, int32_t* ids, float* weights);

// Row `row` of args' two outputs from its logits [num_experts], which are spoilt.
void ChooseOfRow(const RouteArgs& args, int64_t row, float* logits);

}  // namespace moed
