#include "kernels/cuda/cuda_backend_impl.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check_args.h"
#include "kernels/check_weights.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "kernels/cuda/cuda_timer.h"
#include "kernels/cuda/pack_tensor.h"
#include "kernels/cuda/routing_ops.h"
#include "kernels/cuda/row_ops.h"

namespace moed::cuda {

absl::StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::Create(const CudaBackendOptions& options,
                                                                 const CudaDeviceInfo& device) {
  std::unique_ptr<CudaBackend> backend(new CudaBackend(options, device));
  MOED_RETURN_IF_ERROR(backend->SetDevice());
  MOED_ASSIGN_OR_RETURN(backend->pack_stream_, CudaStream::Create(backend->api_, device));
  MOED_ASSIGN_OR_RETURN(backend->gemm_,
                        GemmKernels::Create(backend->memory_, options.gemm_api,
                                            options.activation_dtype, options.deterministic));
  return backend;
}

CudaBackend::CudaBackend(const CudaBackendOptions& options, const CudaDeviceInfo& device)
    : options_(options),
      device_(device),
      api_(*options.api),
      memory_(*options.api, options.device) {}

std::string CudaBackend::Description() const {
  constexpr int64_t kGiB = int64_t{1} << 30;
  return absl::StrCat(device_.name, " (device ", options_.device, ", sm_", device_.major,
                      device_.minor, ", ", device_.total_memory_bytes / kGiB, " GiB), ",
                      DTypeName(options_.activation_dtype),
                      options_.deterministic ? ", deterministic" : "");
}

absl::Status CudaBackend::SetDevice() const {
  return CudaStatus(api_, api_.set_device(options_.device), "choosing the device");
}

CudaStream& CudaBackend::Enter(Stream& stream, const char* operation) const {
  auto& cuda_stream = static_cast<CudaStream&>(stream);
  cuda_stream.Note(api_.set_device(options_.device), operation);
  return cuda_stream;
}

absl::StatusOr<Buffer> CudaBackend::Allocate(MemoryKind kind, int64_t bytes) {
  return memory_.Allocate(kind, bytes);
}

absl::StatusOr<Buffer> CudaBackend::AllocateStaging(int64_t bytes) {
  return memory_.AllocatePinned(bytes);
}

int64_t CudaBackend::allocated_bytes(MemoryKind kind) const {
  return memory_.allocated_bytes(kind);
}

absl::Status CudaBackend::PrepareWorkspace(const WorkspaceLimits& limits) {
  MOED_RETURN_IF_ERROR(CheckLimits(limits));
  MOED_RETURN_IF_ERROR(SetDevice());
  // Prepared anew: what it had goes first, so that both need not fit.
  attention_.reset();
  sampling_.reset();
  MOED_RETURN_IF_ERROR(gemm_->PrepareWorkspace(limits));
  MOED_ASSIGN_OR_RETURN(attention_, PagedAttentionKernels::Create(memory_, limits));
  MOED_ASSIGN_OR_RETURN(sampling_, SamplingKernels::Create(memory_, limits));
  return pack_stream_->Synchronize();
}

absl::StatusOr<int64_t> CudaBackend::WorkspaceBytes(const WorkspaceLimits& limits) const {
  MOED_RETURN_IF_ERROR(CheckLimits(limits));
  // Beyond this the sizes below could overflow, and a weight is more than a device holds.
  constexpr int64_t kLargest = int64_t{1} << 24;
  if (std::max({limits.max_rows, limits.max_logit_rows, limits.hidden, limits.ffn, limits.vocab,
                limits.num_heads, limits.num_kv_heads, limits.num_experts, limits.top_k}) >
      kLargest) {
    return std::numeric_limits<int64_t>::max();
  }
  MOED_ASSIGN_OR_RETURN(const int64_t attention_bytes, PagedAttentionKernels::ScratchBytes(limits));
  return gemm_->WorkspaceBytes(limits) + attention_bytes + SamplingKernels::ScratchBytes(limits);
}

std::unique_ptr<Stream> CudaBackend::CreateStream() {
  absl::Status status = SetDevice();
  if (status.ok()) {
    absl::StatusOr<std::unique_ptr<CudaStream>> stream = CudaStream::Create(api_, device_);
    if (stream.ok()) return *std::move(stream);
    status = std::move(stream).status();
  }
  return CudaStream::MakeFailed(api_, device_, std::move(status));
}

absl::Status CudaBackend::Synchronize(Stream& stream) {
  const ProfilerRange range(api_, "Synchronize");
  return Enter(stream, "Synchronize").Synchronize();
}

void CudaBackend::CopyToDevice(Stream& stream, ConstTensorView host, TensorView device) {
  Copy(stream, host, device, "CopyToDevice");
}

void CudaBackend::CopyToHost(Stream& stream, ConstTensorView device, TensorView host) {
  Copy(stream, device, host, "CopyToHost");
}

void CudaBackend::CopyOnDevice(Stream& stream, ConstTensorView from, TensorView to) {
  Copy(stream, from, to, "CopyOnDevice");
}

void CudaBackend::Copy(Stream& stream, ConstTensorView from, TensorView to, const char* operation) {
  MOED_CHECK(from.bytes() == to.bytes(), "a copy between views of different sizes");
  if (from.bytes() == 0) return;
  const ProfilerRange range(api_, operation);
  CudaStream& cuda_stream = Enter(stream, operation);
  cuda_stream.Note(
      api_.copy(to.raw(), from.raw(), static_cast<size_t>(from.bytes()), cuda_stream.handle()),
      operation);
}

std::unique_ptr<StreamTimer> CudaBackend::CreateTimer() {
  SetDevice().IgnoreError();  // a timer without its events measures 0
  return MakeCudaTimer(api_);
}

absl::StatusOr<std::unique_ptr<LinearWeight>> CudaBackend::PackLinear(
    absl::Span<const ConstTensorView> parts) {
  MOED_RETURN_IF_ERROR(CheckLinearParts(parts).status());
  MOED_RETURN_IF_ERROR(SetDevice());
  return gemm_->PackLinear(*pack_stream_, parts);
}

absl::StatusOr<std::unique_ptr<ExpertWeight>> CudaBackend::PackExpert(ConstTensorView w1,
                                                                      ConstTensorView w2,
                                                                      ConstTensorView w3) {
  MOED_RETURN_IF_ERROR(CheckExpertParts(w1, w2, w3).status());
  MOED_RETURN_IF_ERROR(SetDevice());
  return gemm_->PackExpert(*pack_stream_, w1, w2, w3);
}

absl::StatusOr<Buffer> CudaBackend::PackTensor(ConstTensorView source, DType dtype) {
  MOED_RETURN_IF_ERROR(SetDevice());
  return cuda::PackTensor(memory_, *pack_stream_, source, dtype);
}

void CudaBackend::Embed(Stream& stream, const EmbedArgs& args) {
  CheckEmbed(args, activation_dtype());
  const ProfilerRange range(api_, "Embed");
  cuda::Embed(Enter(stream, "Embed"), args);
}

void CudaBackend::RmsNorm(Stream& stream, const RmsNormArgs& args) {
  CheckRmsNorm(args, activation_dtype());
  const ProfilerRange range(api_, "RmsNorm");
  cuda::RmsNorm(Enter(stream, "RmsNorm"), args);
}

void CudaBackend::Linear(Stream& stream, const LinearArgs& args) {
  CheckLinear(args, activation_dtype());
  const ProfilerRange range(api_, "Linear");
  gemm_->Linear(Enter(stream, "Linear"), args);
}

void CudaBackend::RotaryCacheWrite(Stream& stream, const RotaryCacheWriteArgs& args) {
  CheckRotaryCacheWrite(args, activation_dtype());
  const ProfilerRange range(api_, "RotaryCacheWrite");
  cuda::RotaryCacheWrite(Enter(stream, "RotaryCacheWrite"), args);
}

void CudaBackend::PagedAttention(Stream& stream, const PagedAttentionArgs& args) {
  CheckPagedAttention(args, activation_dtype());
  MOED_CHECK(attention_ != nullptr, "PagedAttention before PrepareWorkspace");
  const ProfilerRange range(api_, "PagedAttention");
  attention_->Run(Enter(stream, "PagedAttention"), args);
}

void CudaBackend::Route(Stream& stream, const RouteArgs& args) {
  CheckRoute(args, activation_dtype());
  const ProfilerRange range(api_, "Route");
  cuda::Route(Enter(stream, "Route"), args);
}

void CudaBackend::CountChoices(Stream& stream, const CountChoicesArgs& args) {
  CheckCountChoices(args);
  const ProfilerRange range(api_, "CountChoices");
  cuda::CountChoices(Enter(stream, "CountChoices"), args);
}

void CudaBackend::LimitLoad(Stream& stream, const LimitLoadArgs& args) {
  CheckLimitLoad(args);
  const ProfilerRange range(api_, "LimitLoad");
  cuda::LimitLoad(Enter(stream, "LimitLoad"), args);
}

void CudaBackend::PlanSend(Stream& stream, const PlanSendArgs& args) {
  CheckPlanSend(args);
  const ProfilerRange range(api_, "PlanSend");
  cuda::PlanSend(Enter(stream, "PlanSend"), args);
}

void CudaBackend::IndexStaticSlots(Stream& stream, const IndexStaticSlotsArgs& args) {
  CheckIndexStaticSlots(args);
  const ProfilerRange range(api_, "IndexStaticSlots");
  cuda::IndexStaticSlots(Enter(stream, "IndexStaticSlots"), args);
}

void CudaBackend::GroupByExpert(Stream& stream, const GroupByExpertArgs& args) {
  CheckGroupByExpert(args);
  const ProfilerRange range(api_, "GroupByExpert");
  cuda::GroupByExpert(Enter(stream, "GroupByExpert"), args);
}

void CudaBackend::GatherRows(Stream& stream, const GatherRowsArgs& args) {
  CheckGatherRows(args);
  const ProfilerRange range(api_, "GatherRows");
  cuda::GatherRows(Enter(stream, "GatherRows"), args);
}

void CudaBackend::ExpertFfn(Stream& stream, const ExpertFfnArgs& args) {
  CheckExpertFfn(args, activation_dtype());
  const ProfilerRange range(api_, "ExpertFfn");
  gemm_->ExpertFfn(Enter(stream, "ExpertFfn"), args);
}

void CudaBackend::Combine(Stream& stream, const CombineArgs& args) {
  CheckCombine(args, activation_dtype());
  const ProfilerRange range(api_, "Combine");
  cuda::Combine(Enter(stream, "Combine"), args);
}

void CudaBackend::FillSeeded(Stream& stream, const FillSeededArgs& args) {
  CheckFillSeeded(args);
  const ProfilerRange range(api_, "FillSeeded");
  cuda::FillSeeded(Enter(stream, "FillSeeded"), args);
}

void CudaBackend::Sample(Stream& stream, const SampleArgs& args) {
  CheckSample(args);
  MOED_CHECK(sampling_ != nullptr, "Sample before PrepareWorkspace");
  const ProfilerRange range(api_, "Sample");
  sampling_->Sample(Enter(stream, "Sample"), args);
}

void CudaBackend::TokenLogprobs(Stream& stream, const TokenLogprobsArgs& args) {
  CheckTokenLogprobs(args);
  MOED_CHECK(sampling_ != nullptr, "TokenLogprobs before PrepareWorkspace");
  const ProfilerRange range(api_, "TokenLogprobs");
  sampling_->TokenLogprobs(Enter(stream, "TokenLogprobs"), args);
}

}  // namespace moed::cuda
