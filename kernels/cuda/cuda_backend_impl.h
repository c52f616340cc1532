// The Backend of one rank on one CUDA device.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_api.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/sampling.h"

namespace moed::cuda {

// Each operation checks its arguments, opens a profiler's range with its name and forwards to its
// family. The runtime keeps one current device for each thread: every entry sets it, as ranks of
// several devices may be made by one thread and run by another.
class CudaBackend final : public Backend {
 public:
  // `options` and `device` have been checked.
  static absl::StatusOr<std::unique_ptr<CudaBackend>> Create(const CudaBackendOptions& options,
                                                             const CudaDeviceInfo& device);

  std::string Description() const override;
  DType activation_dtype() const override { return options_.activation_dtype; }
  absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes) override;
  absl::StatusOr<Buffer> AllocateStaging(int64_t bytes) override;
  int64_t allocated_bytes(MemoryKind kind) const override;
  absl::Status PrepareWorkspace(const WorkspaceLimits& limits) override;
  absl::StatusOr<int64_t> WorkspaceBytes(const WorkspaceLimits& limits) const override;
  std::unique_ptr<Stream> CreateStream() override;
  absl::Status Synchronize(Stream& stream) override;
  void CopyToDevice(Stream& stream, ConstTensorView host, TensorView device) override;
  void CopyToHost(Stream& stream, ConstTensorView device, TensorView host) override;
  void CopyOnDevice(Stream& stream, ConstTensorView from, TensorView to) override;
  std::unique_ptr<StreamTimer> CreateTimer() override;
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(
      absl::Span<const ConstTensorView> parts) override;
  absl::StatusOr<std::unique_ptr<ExpertWeight>> PackExpert(ConstTensorView w1, ConstTensorView w2,
                                                           ConstTensorView w3) override;
  absl::StatusOr<Buffer> PackTensor(ConstTensorView source, DType dtype) override;
  void Embed(Stream& stream, const EmbedArgs& args) override;
  void RmsNorm(Stream& stream, const RmsNormArgs& args) override;
  void Linear(Stream& stream, const LinearArgs& args) override;
  void RotaryCacheWrite(Stream& stream, const RotaryCacheWriteArgs& args) override;
  void PagedAttention(Stream& stream, const PagedAttentionArgs& args) override;
  void Route(Stream& stream, const RouteArgs& args) override;
  void CountChoices(Stream& stream, const CountChoicesArgs& args) override;
  void LimitLoad(Stream& stream, const LimitLoadArgs& args) override;
  void PlanSend(Stream& stream, const PlanSendArgs& args) override;
  void IndexStaticSlots(Stream& stream, const IndexStaticSlotsArgs& args) override;
  void GroupByExpert(Stream& stream, const GroupByExpertArgs& args) override;
  void GatherRows(Stream& stream, const GatherRowsArgs& args) override;
  void ExpertFfn(Stream& stream, const ExpertFfnArgs& args) override;
  void Combine(Stream& stream, const CombineArgs& args) override;
  void FillSeeded(Stream& stream, const FillSeededArgs& args) override;
  void Sample(Stream& stream, const SampleArgs& args) override;
  void TokenLogprobs(Stream& stream, const TokenLogprobsArgs& args) override;

 private:
  CudaBackend(const CudaBackendOptions& options, const CudaDeviceInfo& device);

  absl::Status SetDevice() const;
  // The stream of an operation that begins, with this thread on its device.
  CudaStream& Enter(Stream& stream, const char* operation) const;
  void Copy(Stream& stream, ConstTensorView from, TensorView to, const char* operation);

  const CudaBackendOptions options_;
  const CudaDeviceInfo device_;
  const CudaApi& api_;
  CudaMemory memory_;
  // What packing runs on; idle between the calls.
  std::unique_ptr<CudaStream> pack_stream_;
  std::unique_ptr<GemmKernels> gemm_;
  std::unique_ptr<PagedAttentionKernels> attention_;  // null until PrepareWorkspace
  std::unique_ptr<SamplingKernels> sampling_;         // null until PrepareWorkspace
};

}  // namespace moed::cuda
