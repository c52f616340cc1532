// The tables over the libraries themselves. What implements them are the only host files that
// include the toolkit's headers.
#pragma once

#include "kernels/cuda/cuda_api.h"
#include "kernels/cuda/gemm_api.h"

namespace moed::cuda {

const CudaApi& RealCudaApi();
const GemmApi& RealGemmApi();

}  // namespace moed::cuda
