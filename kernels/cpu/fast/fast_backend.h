// The Backend of vector kernels on the threads of a pool.
#pragma once

#include <memory>
#include <string>

#include "kernels/cpu/cpu_backend_base.h"
#include "kernels/cpu/fast/fast_ops.h"
#include "kernels/cpu/fast/workspace.h"
#include "kernels/cpu/simd/isa_kernels.h"

namespace moed {

class FastBackend final : public CpuBackendBase {
 public:
  // `isa` is one of the tables of isa_kernels.h that this CPU can run.
  FastBackend(const IsaKernels& isa, DType activation_dtype, std::shared_ptr<ThreadPool> pool);

  std::string Description() const override;
  absl::Status PrepareWorkspace(const WorkspaceLimits& limits) override;
  absl::StatusOr<int64_t> WorkspaceBytes(const WorkspaceLimits& limits) const override;

  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(
      absl::Span<const ConstTensorView> parts) override;
  absl::StatusOr<std::unique_ptr<ExpertWeight>> PackExpert(ConstTensorView w1, ConstTensorView w2,
                                                           ConstTensorView w3) override;

  void Embed(Stream& stream, const EmbedArgs& args) override;
  void RmsNorm(Stream& stream, const RmsNormArgs& args) override;
  void Linear(Stream& stream, const LinearArgs& args) override;
  void RotaryCacheWrite(Stream& stream, const RotaryCacheWriteArgs& args) override;
  void PagedAttention(Stream& stream, const PagedAttentionArgs& args) override;
  void Route(Stream& stream, const RouteArgs& args) override;
  void GatherRows(Stream& stream, const GatherRowsArgs& args) override;
  void ExpertFfn(Stream& stream, const ExpertFfnArgs& args) override;
  void Combine(Stream& stream, const CombineArgs& args) override;
  void Sample(Stream& stream, const SampleArgs& args) override;
  void TokenLogprobs(Stream& stream, const TokenLogprobsArgs& args) override;

 private:
  const IsaKernels& isa_;
  fast::Workspace workspace_;
  const fast::Context context_;
};

}  // namespace moed
