// Seeded numbers on the CPU: the reference of every other device's.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace moed {

// Elements [begin, end) of args.out.
void FillSeeded(const FillSeededArgs& args, int64_t begin, int64_t end);

}  // namespace moed
