// The seeded draw of one token.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cpu/simd/isa_kernels.h"

namespace moed::fast {

// Steps 5 and 6 of SamplingRow (kernels/backend.h) for row.temperature > 0. `logits` [vocab] hold
// no NaN; `largest` is their maximum and finite. `keys` [vocab] is scratch memory.
int32_t Draw(const IsaKernels& isa, const float* logits, int64_t vocab, float largest,
             const SamplingRow& row, uint64_t* keys);

}  // namespace moed::fast
