// Matrix products on the device: linear layers and experts.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/gemm_api.h"

namespace moed::cuda {

// Few rows stream the weights through a kernel of our own; many go to cuBLASLt, with an algorithm
// found once for each (N, K, bucket of M) and kept. Experts whose row counts only the device knows
// go through a grouped kernel of our own. In deterministic mode one kernel of our own, with one
// order of K for each (N, K), computes every M.
class GemmKernels {
 public:
  // `gemm_api` may be null: then our own kernels compute everything.
  static absl::StatusOr<std::unique_ptr<GemmKernels>> Create(CudaMemory& memory,
                                                             const GemmApi* gemm_api,
                                                             DType activation, bool deterministic);
  ~GemmKernels();

  // Scratch and the library's own workspace (MemoryKind::kWorkspace) for calls within the limits.
  absl::Status PrepareWorkspace(const WorkspaceLimits& limits);
  // What PrepareWorkspace takes.
  int64_t WorkspaceBytes(const WorkspaceLimits& limits) const;

  // As Backend's. Parts lie in host or device memory; the stream has run when they return.
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(CudaStream& stream,
                                                           absl::Span<const ConstTensorView> parts);
  absl::StatusOr<std::unique_ptr<ExpertWeight>> PackExpert(CudaStream& stream, ConstTensorView w1,
                                                           ConstTensorView w2, ConstTensorView w3);

  void Linear(CudaStream& stream, const LinearArgs& args);
  void ExpertFfn(CudaStream& stream, const ExpertFfnArgs& args);

 private:
  class Impl;
  explicit GemmKernels(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moed::cuda
