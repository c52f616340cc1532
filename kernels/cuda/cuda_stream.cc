#include "kernels/cuda/cuda_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"

namespace moed::cuda {

absl::Status CudaStatus(const CudaApi& api, CudaError error, const char* what) {
  if (error == kCudaSuccess) return absl::OkStatus();
  const std::string text =
      absl::StrCat(what, ": ", api.error_name(error), " (", error, "): ", api.error_text(error));
  if (error == kCudaErrorMemoryAllocation) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

namespace {

LaunchContext ContextOf(const CudaDeviceInfo& device) {
  LaunchContext context;
  context.num_sms = device.num_sms;
  context.max_shared_bytes_per_block = device.max_shared_bytes_per_block;
  return context;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaStream>> CudaStream::Create(const CudaApi& api,
                                                               const CudaDeviceInfo& device) {
  LaunchContext context = ContextOf(device);
  MOED_RETURN_IF_ERROR(CudaStatus(api, api.create_stream(&context.stream), "creating a stream"));
  return std::unique_ptr<CudaStream>(new CudaStream(api, context));
}

std::unique_ptr<CudaStream> CudaStream::MakeFailed(const CudaApi& api, const CudaDeviceInfo& device,
                                                   absl::Status status) {
  std::unique_ptr<CudaStream> stream(new CudaStream(api, ContextOf(device)));
  stream->Note(std::move(status));
  return stream;
}

CudaStream::~CudaStream() {
  // What still runs uses memory that its owner is about to release.
  api_.synchronize_stream(context_.stream);
  if (context_.stream != nullptr) api_.destroy_stream(context_.stream);
}

void CudaStream::Note(CudaError error, const char* what) {
  if (error != kCudaSuccess) [[unlikely]]
    Note(CudaStatus(api_, error, what));
}

void CudaStream::Note(absl::Status status) {
  if (status_.ok() && !status.ok()) status_ = std::move(status);
}

absl::Status CudaStream::Synchronize() {
  Note(api_.synchronize_stream(context_.stream), "running the enqueued operations");
  return status_;
}

}  // namespace moed::cuda
