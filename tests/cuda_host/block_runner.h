// Runs the blocks of a kernel one after another on the calling thread.
#pragma once

#include <cstddef>

#include "tests/cuda_host/kernel_launch.h"

namespace moed::cuda_host {

// Returns when all blocks have run. Aborts with a text on a misused barrier or warp function.
void RunKernel(const KernelCall& call);

}  // namespace moed::cuda_host
