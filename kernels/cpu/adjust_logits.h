// What a request does to single logits before one is drawn; the CPU backends share it.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace moed {

// Steps 1 to 3 of SamplingRow (kernels/backend.h), in place on `logits` [vocab], which hold neither
// NaN nor +infinity. Reads and writes those of the listed tokens only. A bias is added in float32;
// the penalties of a token are computed in double and rounded once. A finite logit stays finite,
// -infinity stays what it is, and no result is -0. Returns whether any token was listed.
bool AdjustLogits(const SamplingRow& row, int64_t vocab, float* logits);

}  // namespace moed
