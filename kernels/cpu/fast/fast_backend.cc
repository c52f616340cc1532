#include "kernels/cpu/fast/fast_backend.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/check_args.h"
#include "kernels/check_weights.h"
#include "kernels/core/status.h"
#include "kernels/cpu/fast/packed_matrix.h"

namespace moed {

FastBackend::FastBackend(const IsaKernels& isa, DType activation_dtype,
                         std::shared_ptr<ThreadPool> pool)
    : CpuBackendBase(activation_dtype, std::move(pool)),
      isa_(isa),
      context_{isa_, activation_dtype, CpuBackendBase::pool(), workspace_} {}

std::string FastBackend::Description() const {
  return absl::StrCat("CPU kernels for ", isa_.name, ", ", DTypeName(act()), ", ",
                      pool().num_threads(), pool().num_threads() == 1 ? " thread" : " threads");
}

absl::Status FastBackend::PrepareWorkspace(const WorkspaceLimits& limits) {
  MOED_RETURN_IF_ERROR(CheckLimits(limits));
  workspace_ = {};  // gives the old memory back first
  MOED_ASSIGN_OR_RETURN(
      workspace_,
      fast::MakeWorkspace(limits, isa_, act(), pool().num_threads(),
                          [&](int64_t bytes) { return Allocate(MemoryKind::kWorkspace, bytes); }));
  return absl::OkStatus();
}

absl::StatusOr<int64_t> FastBackend::WorkspaceBytes(const WorkspaceLimits& limits) const {
  MOED_RETURN_IF_ERROR(CheckLimits(limits));
  return fast::WorkspaceBytes(limits, isa_, act(), pool().num_threads());
}

absl::StatusOr<std::unique_ptr<LinearWeight>> FastBackend::PackLinear(
    absl::Span<const ConstTensorView> parts) {
  MOED_ASSIGN_OR_RETURN(const LinearShape shape, CheckLinearParts(parts));
  const int64_t columns = isa_.panel_columns;
  const auto row_of = [&](int64_t panel, int64_t column) -> fast::WeightRow {
    int64_t row = panel * columns + column;
    for (const ConstTensorView& part : parts) {
      if (row < part.dim(0)) return {&part, row};
      row -= part.dim(0);
    }
    return {};
  };
  MOED_ASSIGN_OR_RETURN(
      fast::PackedMatrix matrix,
      fast::PackMatrix(
          isa_, act(), shape.in_features, (shape.out_features + columns - 1) / columns, pool(),
          [&](int64_t bytes) { return Allocate(MemoryKind::kWeights, bytes); }, row_of));
  return std::make_unique<fast::PackedLinear>(std::move(matrix), shape.out_features);
}

absl::StatusOr<std::unique_ptr<ExpertWeight>> FastBackend::PackExpert(ConstTensorView w1,
                                                                      ConstTensorView w2,
                                                                      ConstTensorView w3) {
  MOED_ASSIGN_OR_RETURN(const LinearShape shape, CheckExpertParts(w1, w2, w3));
  const int64_t ffn = shape.out_features;
  const int64_t hidden = shape.in_features;
  const int64_t columns = isa_.panel_columns;
  const int64_t half = columns / 2;
  const auto allocate = [&](int64_t bytes) { return Allocate(MemoryKind::kWeights, bytes); };
  MOED_ASSIGN_OR_RETURN(
      fast::PackedMatrix gate_up,
      fast::PackMatrix(isa_, act(), hidden, (ffn + half - 1) / half, pool(), allocate,
                       [&](int64_t panel, int64_t column) -> fast::WeightRow {
                         const int64_t row = panel * half + column % half;
                         if (row >= ffn) return {};
                         return {column < half ? &w1 : &w3, row};
                       }));
  MOED_ASSIGN_OR_RETURN(
      fast::PackedMatrix down,
      fast::PackMatrix(isa_, act(), ffn, (hidden + columns - 1) / columns, pool(), allocate,
                       [&](int64_t panel, int64_t column) -> fast::WeightRow {
                         const int64_t row = panel * columns + column;
                         if (row >= hidden) return {};
                         return {&w2, row};
                       }));
  return std::make_unique<fast::PackedExpert>(std::move(gate_up), std::move(down));
}

void FastBackend::Embed(Stream& /*stream*/, const EmbedArgs& args) {
  CheckEmbed(args, act());
  fast::Embed(context_, args);
}

void FastBackend::RmsNorm(Stream& /*stream*/, const RmsNormArgs& args) {
  CheckRmsNorm(args, act());
  fast::RmsNorm(context_, args);
}

void FastBackend::Linear(Stream& /*stream*/, const LinearArgs& args) {
  CheckLinear(args, act());
  fast::Linear(context_, args);
}

void FastBackend::RotaryCacheWrite(Stream& /*stream*/, const RotaryCacheWriteArgs& args) {
  CheckRotaryCacheWrite(args, act());
  fast::RotaryCacheWrite(context_, args);
}

void FastBackend::PagedAttention(Stream& /*stream*/, const PagedAttentionArgs& args) {
  CheckPagedAttention(args, act());
  fast::PagedAttention(context_, args);
}

void FastBackend::Route(Stream& /*stream*/, const RouteArgs& args) {
  CheckRoute(args, act());
  fast::Route(context_, args);
}

void FastBackend::GatherRows(Stream& /*stream*/, const GatherRowsArgs& args) {
  CheckGatherRows(args);
  fast::GatherRows(context_, args);
}

void FastBackend::ExpertFfn(Stream& /*stream*/, const ExpertFfnArgs& args) {
  CheckExpertFfn(args, act());
  fast::ExpertFfn(context_, args);
}

void FastBackend::Combine(Stream& /*stream*/, const CombineArgs& args) {
  CheckCombine(args, act());
  fast::Combine(context_, args);
}

void FastBackend::Sample(Stream& /*stream*/, const SampleArgs& args) {
  CheckSample(args);
  fast::Sample(context_, args);
}

void FastBackend::TokenLogprobs(Stream& /*stream*/, const TokenLogprobsArgs& args) {
  CheckTokenLogprobs(args);
  fast::TokenLogprobs(context_, args);
}

}  // namespace moed
