// Paged attention on the device, with its scratch memory.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

// Decode rows have their KV range split over blocks, and a group's heads share each read of it;
// chunks of a prompt go through tensor cores in bfloat16. How a row's range is split depends on its
// own context alone, so that its bits do not depend on the batch.
class PagedAttentionKernels {
 public:
  // Scratch (MemoryKind::kWorkspace) for calls within the limits.
  static absl::StatusOr<std::unique_ptr<PagedAttentionKernels>> Create(
      CudaMemory& memory, const WorkspaceLimits& limits);

  // As Backend::PagedAttention; errors are noted on the stream.
  void Run(CudaStream& stream, const PagedAttentionArgs& args);

 private:
  PagedAttentionKernels() = default;

  Buffer scratch_;
};

}  // namespace moed::cuda
