// The operations that treat each row by itself: contracts in kernels/backend.h. Each checks
// nothing, opens no range, waits for nothing; errors are noted on the stream.
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

void Embed(CudaStream& stream, const EmbedArgs& args);
void RmsNorm(CudaStream& stream, const RmsNormArgs& args);
void RotaryCacheWrite(CudaStream& stream, const RotaryCacheWriteArgs& args);
void GatherRows(CudaStream& stream, const GatherRowsArgs& args);
void Combine(CudaStream& stream, const CombineArgs& args);
void FillSeeded(CudaStream& stream, const FillSeededArgs& args);
// to = from, element by element: float32, bfloat16 or float16 to float32 or bfloat16; equal sizes,
// both in device memory.
void Convert(CudaStream& stream, ConstTensorView from, TensorView to);

}  // namespace moed::cuda
