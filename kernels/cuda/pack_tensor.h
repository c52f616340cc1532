// A plain tensor on the device from one on the host or the device.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/core/buffer.h"
#include "kernels/core/dtype.h"
#include "kernels/core/tensor_view.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

inline constexpr int64_t kPackPieceBytes = int64_t{32} << 20;

// As Backend::PackTensor. The stream has run when it returns. Conversion goes piece by piece,
// through memory (MemoryKind::kWorkspace) that it gives back.
absl::StatusOr<Buffer> PackTensor(CudaMemory& memory, CudaStream& stream, ConstTensorView source,
                                  DType dtype, int64_t piece_bytes = kPackPieceBytes);

}  // namespace moed::cuda
