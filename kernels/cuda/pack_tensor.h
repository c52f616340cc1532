// A plain tensor on the device from one on the host or the device.
#pragma once

#include "absl/status/statusor.h"
#include "kernels/core/buffer.h"
#include "kernels/core/dtype.h"
#include "kernels/core/tensor_view.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

// As Backend::PackTensor. The stream has run when it returns; while it runs, conversion takes at
// most 32 MiB more (MemoryKind::kWorkspace).
absl::StatusOr<Buffer> PackTensor(CudaMemory& memory, CudaStream& stream, ConstTensorView source,
                                  DType dtype);

}  // namespace moed::cuda
