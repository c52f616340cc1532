// A CUDA stream behind the opaque Stream, with the first error of what was enqueued on it.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/stream.h"
#include "kernels/cuda/cuda_api.h"
#include "kernels/cuda/launch.h"

namespace moed::cuda {

// "cudaErrorInvalidValue (1): invalid argument, in `what`": RESOURCE_EXHAUSTED where memory is out,
// else INTERNAL. OK for success.
absl::Status CudaStatus(const CudaApi& api, CudaError error, const char* what);

// Used by the rank's thread.
class CudaStream final : public Stream {
 public:
  static absl::StatusOr<std::unique_ptr<CudaStream>> Create(const CudaApi& api,
                                                            const CudaDeviceInfo& device);
  // In place of one that could not be created: enqueues on the device's default stream, and gives
  // `status` (not OK) at Synchronize.
  static std::unique_ptr<CudaStream> MakeFailed(const CudaApi& api, const CudaDeviceInfo& device,
                                                absl::Status status);
  ~CudaStream() override;

  void* handle() const { return context_.stream; }
  const CudaApi& api() const { return api_; }
  const LaunchContext& context() const { return context_; }

  // Notes the outcome of a call that was enqueued here; the first failure stays. `what` is static
  // text, the name of the operation.
  void Note(CudaError error, const char* what);
  void Note(absl::Status status);

  // Blocks until all that was enqueued has run; the first error of any of it, for good.
  absl::Status Synchronize();

 private:
  CudaStream(const CudaApi& api, const LaunchContext& context) : api_(api), context_(context) {}

  const CudaApi& api_;
  const LaunchContext context_;
  absl::Status status_;
};

// An NVTX range: the life of the object, on the calling thread.
class ProfilerRange {
 public:
  ProfilerRange(const CudaApi& api, const char* name) : api_(api) { api_.push_range(name); }
  ~ProfilerRange() { api_.pop_range(); }
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;

 private:
  const CudaApi& api_;
};

}  // namespace moed::cuda
