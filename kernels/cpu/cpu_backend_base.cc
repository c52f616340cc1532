#include "kernels/cpu/cpu_backend_base.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"
#include "kernels/cpu/check_args.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/index_ops.h"

namespace moed {
namespace {

void Copy(const ConstTensorView& source, const TensorView& target) {
  MOED_CHECK(source.bytes() == target.bytes(), "a copy between views of different sizes");
  if (source.bytes() > 0) {
    std::memcpy(target.raw(), source.raw(), static_cast<size_t>(source.bytes()));
  }
}

std::string Describe(const ConstTensorView& view) {
  std::string text = absl::StrCat(DTypeName(view.dtype()), "[");
  for (int axis = 0; axis < view.rank(); ++axis) {
    absl::StrAppend(&text, axis == 0 ? "" : ", ", view.dim(axis));
  }
  return absl::StrCat(text, "]");
}

bool IsFloatMatrix(const ConstTensorView& view) {
  return view.rank() == 2 && IsFloatType(view.dtype());
}

}  // namespace

CpuBackendBase::CpuBackendBase(DType activation_dtype, std::shared_ptr<ThreadPool> pool)
    : act_(activation_dtype), pool_(std::move(pool)) {}

absl::StatusOr<Buffer> CpuBackendBase::Allocate(MemoryKind kind, int64_t bytes) {
  return memory_.Allocate(kind, bytes);
}

int64_t CpuBackendBase::allocated_bytes(MemoryKind kind) const {
  return memory_.allocated_bytes(kind);
}

std::unique_ptr<Stream> CpuBackendBase::CreateStream() { return std::make_unique<Stream>(); }

absl::Status CpuBackendBase::Synchronize(Stream& /*stream*/) { return absl::OkStatus(); }

void CpuBackendBase::CopyToDevice(Stream& /*stream*/, ConstTensorView host, TensorView device) {
  Copy(host, device);
}

void CpuBackendBase::CopyToHost(Stream& /*stream*/, ConstTensorView device, TensorView host) {
  Copy(device, host);
}

absl::StatusOr<Buffer> CpuBackendBase::PackTensor(ConstTensorView source, DType dtype) {
  if (!IsFloatType(source.dtype()) || (dtype != DType::kFloat32 && dtype != DType::kBFloat16)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot pack a tensor ", Describe(source), " as ", DTypeName(dtype)));
  }
  const int64_t count = source.num_elements();
  const std::optional<int64_t> bytes = CheckedMul(count, DTypeBytes(dtype));
  if (!bytes.has_value()) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot pack ", count, " elements"));
  }
  MOED_ASSIGN_OR_RETURN(Buffer buffer, Allocate(MemoryKind::kWeights, *bytes));
  const TensorView target = buffer.View(dtype, {count});
  constexpr int64_t kPieceElements = 1024;
  pool().ParallelFor(count, int64_t{64} * kPieceElements, [&](int64_t begin, int64_t end) {
    float piece[kPieceElements];
    for (int64_t at = begin; at < end; at += kPieceElements) {
      const int64_t size = std::min(kPieceElements, end - at);
      ReadFloats(source, at, size, piece);
      WriteFloats(piece, at, size, target);
    }
  });
  return buffer;
}

void CpuBackendBase::CountChoices(Stream& /*stream*/, const CountChoicesArgs& args) {
  CheckCountChoices(args);
  moed::CountChoices(args);
}

void CpuBackendBase::LimitLoad(Stream& /*stream*/, const LimitLoadArgs& args) {
  CheckLimitLoad(args);
  moed::LimitLoad(args);
}

void CpuBackendBase::PlanSend(Stream& /*stream*/, const PlanSendArgs& args) {
  CheckPlanSend(args);
  moed::PlanSend(args);
}

void CpuBackendBase::IndexStaticSlots(Stream& /*stream*/, const IndexStaticSlotsArgs& args) {
  CheckIndexStaticSlots(args);
  moed::IndexStaticSlots(args);
}

void CpuBackendBase::GroupByExpert(Stream& /*stream*/, const GroupByExpertArgs& args) {
  CheckGroupByExpert(args);
  moed::GroupByExpert(args);
}

absl::StatusOr<LinearShape> CheckLinearParts(absl::Span<const ConstTensorView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a linear weight without parts");
  LinearShape shape;
  for (const ConstTensorView& part : parts) {
    if (!IsFloatMatrix(part) || part.dim(1) != parts[0].dim(1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a linear weight part is ", Describe(part), ", expected a float matrix",
                       " as wide as the first part, ", Describe(parts[0])));
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
    return absl::InvalidArgumentError(
        absl::StrCat("an expert's weights are w1 ", Describe(w1), ", w2 ", Describe(w2), ", w3 ",
                     Describe(w3), ", expected float [ffn, hidden], [hidden, ffn], [ffn, hidden]"));
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
