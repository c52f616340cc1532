// In which order the emulation starts blocks, and the threads of a block. CUDA promises none, so
// results must be equal under all.
#pragma once

#include <cstdint>

namespace moed::cuda_host {

enum class BlockOrder : uint8_t { kForward, kReverse, kSeeded };

// Of kernels that start to run from now on, in the whole process. `seed` is for kSeeded.
void SetBlockOrder(BlockOrder order, uint32_t seed = 1);

}  // namespace moed::cuda_host
