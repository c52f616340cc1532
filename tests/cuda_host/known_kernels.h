// The kernels of the build.
#pragma once

#include <string>
#include <vector>

namespace moed::cuda_host {

// Every __global__ function in kernels/cuda, by name. The build makes it from the files.
std::vector<std::string> KnownKernels();

}  // namespace moed::cuda_host
