// What every CPU backend shares: memory, streams, copies, plain tensors, integer operations.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/thread_pool.h"
#include "kernels/cpu/cpu_memory.h"

namespace moed {

class CpuBackendBase : public Backend {
 public:
  CpuBackendBase(DType activation_dtype, std::shared_ptr<ThreadPool> pool);

  DType activation_dtype() const override { return act_; }

  absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes) override;
  int64_t allocated_bytes(MemoryKind kind) const override;

  std::unique_ptr<Stream> CreateStream() override;
  // A CPU call has run when it returns, and none can fail: always OK.
  absl::Status Synchronize(Stream& stream) override;
  void CopyToDevice(Stream& stream, ConstTensorView host, TensorView device) override;
  void CopyToHost(Stream& stream, ConstTensorView device, TensorView host) override;

  absl::StatusOr<Buffer> PackTensor(ConstTensorView source, DType dtype) override;

  void CountChoices(Stream& stream, const CountChoicesArgs& args) override;
  void LimitLoad(Stream& stream, const LimitLoadArgs& args) override;
  void PlanSend(Stream& stream, const PlanSendArgs& args) override;
  void IndexStaticSlots(Stream& stream, const IndexStaticSlotsArgs& args) override;
  void GroupByExpert(Stream& stream, const GroupByExpertArgs& args) override;

 protected:
  ThreadPool& pool() const { return *pool_; }
  DType act() const { return act_; }

 private:
  const DType act_;
  const std::shared_ptr<ThreadPool> pool_;
  CpuMemory memory_;
};

// Rows and columns of stacked linear parts.
struct LinearShape {
  int64_t out_features = 0;
  int64_t in_features = 0;
};

// INVALID_ARGUMENT, naming what was found, unless the parts are float matrices of one width.
absl::StatusOr<LinearShape> CheckLinearParts(absl::Span<const ConstTensorView> parts);

// INVALID_ARGUMENT unless w1 and w3 are float [ffn, hidden] and w2 is float [hidden, ffn]; ffn in
// out_features, hidden in in_features.
absl::StatusOr<LinearShape> CheckExpertParts(const ConstTensorView& w1, const ConstTensorView& w2,
                                             const ConstTensorView& w3);

// INVALID_ARGUMENT for a negative limit.
absl::Status CheckLimits(const WorkspaceLimits& limits);

}  // namespace moed
