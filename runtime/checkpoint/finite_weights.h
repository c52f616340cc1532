// Finds weights that are no numbers.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/core/tensor_view.h"

namespace moed {

// The first element, in memory order, that is infinite or NaN; nullopt where all are finite. The
// tensor is contiguous, of float32, bfloat16 or float16.
std::optional<int64_t> FirstNonFinite(const ConstTensorView& tensor);

}  // namespace moed
