#include "kernels/check_weights.h"

#include "absl/strings/str_cat.h"

namespace moed {
namespace {

bool IsFloatMatrix(const ConstTensorView& view) {
  return view.rank() == 2 && IsWeightType(view.dtype());
}

}  // namespace

std::string DescribeView(const ConstTensorView& view) {
  std::string text = absl::StrCat(DTypeName(view.dtype()), "[");
  for (int axis = 0; axis < view.rank(); ++axis) {
    absl::StrAppend(&text, axis == 0 ? "" : ", ", view.dim(axis));
  }
  return absl::StrCat(text, "]");
}

bool IsWeightType(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16;
}

const char* MemoryKindName(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kWeights:
      return "weights";
    case MemoryKind::kKvCache:
      return "KV cache";
    case MemoryKind::kActivations:
      return "activations";
    case MemoryKind::kExchange:
      return "exchange buffers";
    case MemoryKind::kWorkspace:
      return "workspace";
  }
  return "unknown";
}

absl::StatusOr<LinearShape> CheckLinearParts(absl::Span<const ConstTensorView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a linear weight without parts");
  LinearShape shape;
  for (const ConstTensorView& part : parts) {
    if (!IsFloatMatrix(part) || part.dim(1) != parts[0].dim(1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a linear weight part is ", DescribeView(part), ", expected a float matrix",
                       " as wide as the first part, ", DescribeView(parts[0])));
    }
    shape.out_features += part.dim(0);
  }
  shape.in_features = parts[0].dim(1);
  return shape;
}

absl::StatusOr<LinearShape> CheckExpertParts(const ConstTensorView& w1, const ConstTensorView& w2,
                                             const ConstTensorView& w3) {
  const bool matrices = IsFloatMatrix(w1) && IsFloatMatrix(w2) && IsFloatMatrix(w3);
  if (!matrices || w1.dim(0) != w3.dim(0) || w1.dim(1) != w3.dim(1) || w1.dim(0) != w2.dim(1) ||
      w1.dim(1) != w2.dim(0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an expert's weights are w1 ", DescribeView(w1), ", w2 ", DescribeView(w2), ", w3 ",
        DescribeView(w3), ", expected float [ffn, hidden], [hidden, ffn], [ffn, hidden]"));
  }
  return LinearShape{w1.dim(0), w1.dim(1)};
}

absl::Status CheckLimits(const WorkspaceLimits& limits) {
  for (const int64_t limit :
       {limits.max_rows, limits.max_expert_rows, limits.max_logit_rows, limits.max_context_tokens,
        limits.hidden, limits.ffn, limits.vocab, limits.num_heads, limits.num_kv_heads,
        limits.head_dim, limits.num_experts, limits.top_k}) {
    if (limit < 0) {
      return absl::InvalidArgumentError(absl::StrCat("a workspace limit is negative: ", limit));
    }
  }
  return absl::OkStatus();
}

}  // namespace moed
