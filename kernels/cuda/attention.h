// Paged attention on the device, with its scratch memory.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

// Rows of short chunks (decode steps) have their keys split over blocks, and a group's heads share
// each read of them; longer chunks of a prompt go through one block for each few rows. Products are
// tensor cores' in bfloat16, with queries and weights rounded to it, and float32's otherwise. Both
// ways give the same bits: a row's arithmetic (attention_rows.cuh) depends on its own context
// alone, not on the batch, on how its prompt was cut into chunks, or on how much scratch there is.
class PagedAttentionKernels {
 public:
  // Scratch (MemoryKind::kWorkspace) for calls within the limits: with head_dim 128 and 32 heads 17
  // KB for each piece of 256 positions of a decode row, for kMaxPartials of them at most; where
  // more come together, the rest is not split. INVALID_ARGUMENT for a head_dim above kMaxHeadDim.
  static absl::StatusOr<std::unique_ptr<PagedAttentionKernels>> Create(
      CudaMemory& memory, const WorkspaceLimits& limits);
  // The scratch that Create takes, or its INVALID_ARGUMENT.
  static absl::StatusOr<int64_t> ScratchBytes(const WorkspaceLimits& limits);

  // As Backend::PagedAttention; errors are noted on the stream.
  void Run(CudaStream& stream, const PagedAttentionArgs& args);

  // What 1,000,000 tokens of decode rows need, when their contexts fill their pieces.
  static constexpr int64_t kMaxPartials = 4096;

 private:
  explicit PagedAttentionKernels(Buffer scratch) : scratch_(std::move(scratch)) {}

  Buffer scratch_;
};

}  // namespace moed::cuda
