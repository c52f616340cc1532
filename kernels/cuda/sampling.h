// Sampling and logprobs on the device, with their scratch memory.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

// As Backend's, with the CPU's draws (kernels/core/philox.h). What a row brings in host memory
// (SamplingRow's lists) goes to the device through page-locked memory of a fixed size, in as many
// pieces as it needs; it has been read when Sample returns.
class SamplingKernels {
 public:
  static absl::StatusOr<std::unique_ptr<SamplingKernels>> Create(CudaMemory& memory,
                                                                 const WorkspaceLimits& limits);
  // Device memory that Create takes.
  static int64_t ScratchBytes(const WorkspaceLimits& limits);
  ~SamplingKernels();

  void Sample(CudaStream& stream, const SampleArgs& args);
  void TokenLogprobs(CudaStream& stream, const TokenLogprobsArgs& args);

 private:
  class Impl;
  explicit SamplingKernels(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moed::cuda
