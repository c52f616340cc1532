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
  absl::StatusOr<Buffer> AllocateStaging(int64_t bytes) override;
  int64_t allocated_bytes(MemoryKind kind) const override;

  std::unique_ptr<Stream> CreateStream() override;
  // A CPU call has run when it returns, and none can fail: always OK.
  absl::Status Synchronize(Stream& stream) override;
  void CopyToDevice(Stream& stream, ConstTensorView host, TensorView device) override;
  void CopyToHost(Stream& stream, ConstTensorView device, TensorView host) override;
  void CopyOnDevice(Stream& stream, ConstTensorView from, TensorView to) override;
  std::unique_ptr<StreamTimer> CreateTimer() override;

  absl::StatusOr<Buffer> PackTensor(ConstTensorView source, DType dtype) override;

  void CountChoices(Stream& stream, const CountChoicesArgs& args) override;
  void LimitLoad(Stream& stream, const LimitLoadArgs& args) override;
  void PlanSend(Stream& stream, const PlanSendArgs& args) override;
  void IndexStaticSlots(Stream& stream, const IndexStaticSlotsArgs& args) override;
  void GroupByExpert(Stream& stream, const GroupByExpertArgs& args) override;
  void FillSeeded(Stream& stream, const FillSeededArgs& args) override;

 protected:
  ThreadPool& pool() const { return *pool_; }
  DType act() const { return act_; }

 private:
  const DType act_;
  const std::shared_ptr<ThreadPool> pool_;
  CpuMemory memory_;
};

}  // namespace moed
