#include "kernels/cpu/reference/reference_backend.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/check_args.h"
#include "kernels/check_weights.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"
#include "kernels/cpu/convert.h"

namespace moed {

std::string ReferenceBackend::Description() const {
  return absl::StrCat("CPU reference kernels, ", DTypeName(act()), ", 1 thread");
}

absl::Status ReferenceBackend::PrepareWorkspace(const WorkspaceLimits& limits) {
  MOED_RETURN_IF_ERROR(CheckLimits(limits));
  const auto size = [](int64_t value) { return static_cast<size_t>(value); };
  scratch_.scores.resize(size(std::max(limits.max_context_tokens, limits.num_experts)));
  scratch_.ffn.resize(size(limits.ffn));
  scratch_.row.resize(size(limits.head_dim));
  scratch_.candidates.reserve(size(limits.vocab));
  scratch_.logits.resize(size(limits.vocab));
  scratch_.removed.resize(size(limits.vocab));
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ReferenceBackend::WorkspaceBytes(const WorkspaceLimits& limits) const {
  MOED_RETURN_IF_ERROR(CheckLimits(limits));
  return 0;  // the rows that one thread works on are not counted
}

absl::StatusOr<reference::Matrix> ReferenceBackend::PackMatrix(
    absl::Span<const ConstTensorView> parts) {
  MOED_ASSIGN_OR_RETURN(const LinearShape shape, CheckLinearParts(parts));
  const std::optional<int64_t> count = CheckedMul(shape.out_features, shape.in_features);
  const std::optional<int64_t> bytes = CheckedMul(count.value_or(-1), DTypeBytes(act()));
  if (!count.has_value() || !bytes.has_value()) {
    return absl::ResourceExhaustedError(absl::StrCat("a weight of ", shape.out_features, " x ",
                                                     shape.in_features, " elements is too large"));
  }
  MOED_ASSIGN_OR_RETURN(Buffer buffer, Allocate(MemoryKind::kWeights, *bytes));
  const TensorView target = buffer.View(act(), {*count});
  std::vector<float> row(static_cast<size_t>(shape.in_features));
  int64_t written = 0;
  for (const ConstTensorView& part : parts) {
    for (int64_t r = 0; r < part.dim(0); ++r) {
      ReadFloats(part, r * shape.in_features, shape.in_features, row.data());
      WriteFloats(row.data(), written, shape.in_features, target);
      written += shape.in_features;
    }
  }
  return reference::Matrix(std::move(buffer), act(), shape.out_features, shape.in_features);
}

absl::StatusOr<std::unique_ptr<LinearWeight>> ReferenceBackend::PackLinear(
    absl::Span<const ConstTensorView> parts) {
  MOED_ASSIGN_OR_RETURN(reference::Matrix matrix, PackMatrix(parts));
  return std::make_unique<reference::Matrix>(std::move(matrix));
}

absl::StatusOr<std::unique_ptr<ExpertWeight>> ReferenceBackend::PackExpert(ConstTensorView w1,
                                                                           ConstTensorView w2,
                                                                           ConstTensorView w3) {
  MOED_RETURN_IF_ERROR(CheckExpertParts(w1, w2, w3).status());
  MOED_ASSIGN_OR_RETURN(reference::Matrix gate, PackMatrix({w1}));
  MOED_ASSIGN_OR_RETURN(reference::Matrix down, PackMatrix({w2}));
  MOED_ASSIGN_OR_RETURN(reference::Matrix up, PackMatrix({w3}));
  return std::make_unique<reference::Expert>(std::move(gate), std::move(down), std::move(up));
}

void ReferenceBackend::Embed(Stream& /*stream*/, const EmbedArgs& args) {
  CheckEmbed(args, act());
  reference::Embed(args);
}

void ReferenceBackend::RmsNorm(Stream& /*stream*/, const RmsNormArgs& args) {
  CheckRmsNorm(args, act());
  reference::RmsNorm(args);
}

void ReferenceBackend::Linear(Stream& /*stream*/, const LinearArgs& args) {
  CheckLinear(args, act());
  reference::Linear(args);
}

void ReferenceBackend::RotaryCacheWrite(Stream& /*stream*/, const RotaryCacheWriteArgs& args) {
  CheckRotaryCacheWrite(args, act());
  reference::RotaryCacheWrite(args);
}

void ReferenceBackend::PagedAttention(Stream& /*stream*/, const PagedAttentionArgs& args) {
  CheckPagedAttention(args, act());
  reference::PagedAttention(args, scratch_);
}

void ReferenceBackend::Route(Stream& /*stream*/, const RouteArgs& args) {
  CheckRoute(args, act());
  reference::Route(args, scratch_);
}

void ReferenceBackend::GatherRows(Stream& /*stream*/, const GatherRowsArgs& args) {
  CheckGatherRows(args);
  reference::GatherRows(args);
}

void ReferenceBackend::ExpertFfn(Stream& /*stream*/, const ExpertFfnArgs& args) {
  CheckExpertFfn(args, act());
  reference::ExpertFfn(args, scratch_);
}

void ReferenceBackend::Combine(Stream& /*stream*/, const CombineArgs& args) {
  CheckCombine(args, act());
  reference::Combine(args);
}

void ReferenceBackend::Sample(Stream& /*stream*/, const SampleArgs& args) {
  CheckSample(args);
  reference::Sample(args, scratch_);
}

void ReferenceBackend::TokenLogprobs(Stream& /*stream*/, const TokenLogprobsArgs& args) {
  CheckTokenLogprobs(args);
  reference::TokenLogprobs(args, scratch_);
}

}  // namespace moed
