// A backend that passes every call on, for tests that change or watch one of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"

namespace moed {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  std::string Description() const override { return backend_->Description(); }
  DType activation_dtype() const override { return backend_->activation_dtype(); }
  absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes) override {
    return backend_->Allocate(kind, bytes);
  }
  absl::StatusOr<Buffer> AllocateStaging(int64_t bytes) override {
    return backend_->AllocateStaging(bytes);
  }
  int64_t allocated_bytes(MemoryKind kind) const override {
    return backend_->allocated_bytes(kind);
  }
  absl::Status PrepareWorkspace(const WorkspaceLimits& limits) override {
    return backend_->PrepareWorkspace(limits);
  }
  absl::StatusOr<int64_t> WorkspaceBytes(const WorkspaceLimits& limits) const override {
    return backend_->WorkspaceBytes(limits);
  }
  std::unique_ptr<Stream> CreateStream() override { return backend_->CreateStream(); }
  absl::Status Synchronize(Stream& s) override { return backend_->Synchronize(s); }
  void CopyToDevice(Stream& s, ConstTensorView host, TensorView device) override {
    backend_->CopyToDevice(s, host, device);
  }
  void CopyToHost(Stream& s, ConstTensorView device, TensorView host) override {
    backend_->CopyToHost(s, device, host);
  }
  void CopyOnDevice(Stream& s, ConstTensorView from, TensorView to) override {
    backend_->CopyOnDevice(s, from, to);
  }
  std::unique_ptr<StreamTimer> CreateTimer() override { return backend_->CreateTimer(); }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(
      absl::Span<const ConstTensorView> parts) override {
    return backend_->PackLinear(parts);
  }
  absl::StatusOr<std::unique_ptr<ExpertWeight>> PackExpert(ConstTensorView w1, ConstTensorView w2,
                                                           ConstTensorView w3) override {
    return backend_->PackExpert(w1, w2, w3);
  }
  absl::StatusOr<Buffer> PackTensor(ConstTensorView source, DType dtype) override {
    return backend_->PackTensor(source, dtype);
  }
  void Embed(Stream& s, const EmbedArgs& args) override { backend_->Embed(s, args); }
  void RmsNorm(Stream& s, const RmsNormArgs& args) override { backend_->RmsNorm(s, args); }
  void Linear(Stream& s, const LinearArgs& args) override { backend_->Linear(s, args); }
  void RotaryCacheWrite(Stream& s, const RotaryCacheWriteArgs& args) override {
    backend_->RotaryCacheWrite(s, args);
  }
  void PagedAttention(Stream& s, const PagedAttentionArgs& args) override {
    backend_->PagedAttention(s, args);
  }
  void Route(Stream& s, const RouteArgs& args) override { backend_->Route(s, args); }
  void CountChoices(Stream& s, const CountChoicesArgs& args) override {
    backend_->CountChoices(s, args);
  }
  void LimitLoad(Stream& s, const LimitLoadArgs& args) override { backend_->LimitLoad(s, args); }
  void PlanSend(Stream& s, const PlanSendArgs& args) override { backend_->PlanSend(s, args); }
  void IndexStaticSlots(Stream& s, const IndexStaticSlotsArgs& args) override {
    backend_->IndexStaticSlots(s, args);
  }
  void GroupByExpert(Stream& s, const GroupByExpertArgs& args) override {
    backend_->GroupByExpert(s, args);
  }
  void GatherRows(Stream& s, const GatherRowsArgs& args) override { backend_->GatherRows(s, args); }
  void ExpertFfn(Stream& s, const ExpertFfnArgs& args) override { backend_->ExpertFfn(s, args); }
  void Combine(Stream& s, const CombineArgs& args) override { backend_->Combine(s, args); }
  void FillSeeded(Stream& s, const FillSeededArgs& args) override { backend_->FillSeeded(s, args); }
  void Sample(Stream& s, const SampleArgs& args) override { backend_->Sample(s, args); }
  void TokenLogprobs(Stream& s, const TokenLogprobsArgs& args) override {
    backend_->TokenLogprobs(s, args);
  }

 private:
  std::unique_ptr<Backend> backend_;
};

}  // namespace moed
