// Log-softmax of one row of raw logits, as Sample and TokenLogprobs report it.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd/isa_kernels.h"

namespace moed::fast {

// A NaN counts as -infinity, +infinity as the largest float, -0 as +0.
float Tame(float logit);

struct LogSoftmax {
  float largest = 0;   // of the tamed logits; -infinity where none has a chance
  double log_sum = 0;  // ln of the sum of exp(logit - largest)

  float Of(float tamed_logit) const;
};

// Writes the tamed logits to `tamed` [vocab]. vocab > 0.
LogSoftmax TameRow(const IsaKernels& isa, const float* logits, int64_t vocab, float* tamed);

// The kMaxLogprobs most likely ids, ties to the lower one, and their logprobs; -1 and -infinity
// past the vocabulary.
void WriteTop(const LogSoftmax& softmax, const float* tamed, int64_t vocab, int32_t* ids,
              float* logprobs);

}  // namespace moed::fast
