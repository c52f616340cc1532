#include "kernels/cpu/cpu_backend_base.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check_args.h"
#include "kernels/check_weights.h"
#include "kernels/core/check.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/fill_seeded.h"
#include "kernels/cpu/index_ops.h"

namespace moed {
namespace {

void Copy(const ConstTensorView& source, const TensorView& target) {
  MOED_CHECK(source.bytes() == target.bytes(), "a copy between views of different sizes");
  if (source.bytes() > 0) {
    std::memcpy(target.raw(), source.raw(), static_cast<size_t>(source.bytes()));
  }
}

// A call has run when it returns, so the wall clock tells.
class CpuTimer final : public StreamTimer {
 public:
  void Start(Stream& /*stream*/) override { start_ = std::chrono::steady_clock::now(); }
  void Stop(Stream& /*stream*/) override { stop_ = std::chrono::steady_clock::now(); }
  double seconds() override { return std::chrono::duration<double>(stop_ - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point stop_;
};

}  // namespace

CpuBackendBase::CpuBackendBase(DType activation_dtype, std::shared_ptr<ThreadPool> pool)
    : act_(activation_dtype), pool_(std::move(pool)) {}

absl::StatusOr<Buffer> CpuBackendBase::Allocate(MemoryKind kind, int64_t bytes) {
  return memory_.Allocate(kind, bytes);
}

absl::StatusOr<Buffer> CpuBackendBase::AllocateStaging(int64_t bytes) {
  return AllocateHostBuffer(bytes);
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

void CpuBackendBase::CopyOnDevice(Stream& /*stream*/, ConstTensorView from, TensorView to) {
  Copy(from, to);
}

std::unique_ptr<StreamTimer> CpuBackendBase::CreateTimer() { return std::make_unique<CpuTimer>(); }

absl::StatusOr<Buffer> CpuBackendBase::PackTensor(ConstTensorView source, DType dtype) {
  if (!IsWeightType(source.dtype()) || (dtype != DType::kFloat32 && dtype != DType::kBFloat16)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot pack a tensor ", DescribeView(source), " as ", DTypeName(dtype)));
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

void CpuBackendBase::FillSeeded(Stream& /*stream*/, const FillSeededArgs& args) {
  CheckFillSeeded(args);
  pool().ParallelFor(args.out.num_elements(), /*grain=*/1 << 14,
                     [&](int64_t begin, int64_t end) { moed::FillSeeded(args, begin, end); });
}

}  // namespace moed
