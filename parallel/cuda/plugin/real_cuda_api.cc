#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "parallel/cuda/plugin/real_tables.h"

namespace moed::cuda {
namespace {

static_assert(kCudaErrorMemoryAllocation == cudaErrorMemoryAllocation);
static_assert(kCudaErrorInsufficientDriver == cudaErrorInsufficientDriver);
static_assert(kCudaErrorNoDevice == cudaErrorNoDevice);
static_assert(kCudaErrorNotReady == cudaErrorNotReady);

// The runtime keeps a thread's last error until it is asked for; one that was reported here must
// not come out of the next kernel's launch once more.
CudaError Report(cudaError_t error) {
  if (error != cudaSuccess) [[unlikely]]
    cudaGetLastError();
  return error;
}

cudaStream_t AsStream(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t AsEvent(void* event) { return static_cast<cudaEvent_t>(event); }

CudaError GetDeviceCount(int* count) { return Report(cudaGetDeviceCount(count)); }

CudaError GetVersions(int* driver, int* runtime) {
  const CudaError error = Report(cudaRuntimeGetVersion(runtime));
  return error != kCudaSuccess ? error : Report(cudaDriverGetVersion(driver));
}

CudaError DescribeDevice(int device, CudaDeviceInfo* info) {
  cudaDeviceProp properties;
  const CudaError error = Report(cudaGetDeviceProperties(&properties, device));
  if (error != kCudaSuccess) return error;
  static_assert(sizeof(info->name) >= sizeof(properties.name));
  std::memcpy(info->name, properties.name, sizeof(properties.name));
  info->major = properties.major;
  info->minor = properties.minor;
  info->num_sms = properties.multiProcessorCount;
  info->total_memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  info->l2_cache_bytes = properties.l2CacheSize;
  info->max_shared_bytes_per_block = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  return kCudaSuccess;
}

CudaError SetDevice(int device) { return Report(cudaSetDevice(device)); }

CudaError GetMemory(int64_t* free_bytes, int64_t* total_bytes) {
  size_t free_memory = 0;
  size_t total_memory = 0;
  const CudaError error = Report(cudaMemGetInfo(&free_memory, &total_memory));
  *free_bytes = static_cast<int64_t>(free_memory);
  *total_bytes = static_cast<int64_t>(total_memory);
  return error;
}

CudaError Allocate(void** memory, size_t bytes) { return Report(cudaMalloc(memory, bytes)); }
CudaError Release(void* memory) { return Report(cudaFree(memory)); }
CudaError AllocatePinned(void** memory, size_t bytes) {
  return Report(cudaMallocHost(memory, bytes));
}
CudaError ReleasePinned(void* memory) { return Report(cudaFreeHost(memory)); }

CudaError CreateStream(void** stream) {
  cudaStream_t created = nullptr;
  const CudaError error = Report(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking));
  *stream = created;
  return error;
}
CudaError DestroyStream(void* stream) { return Report(cudaStreamDestroy(AsStream(stream))); }
CudaError SynchronizeStream(void* stream) {
  return Report(cudaStreamSynchronize(AsStream(stream)));
}

CudaError CreateEvent(void** event, bool timed) {
  cudaEvent_t created = nullptr;
  const CudaError error =
      Report(cudaEventCreateWithFlags(&created, timed ? cudaEventDefault : cudaEventDisableTiming));
  *event = created;
  return error;
}
CudaError DestroyEvent(void* event) { return Report(cudaEventDestroy(AsEvent(event))); }
CudaError RecordEvent(void* event, void* stream) {
  return Report(cudaEventRecord(AsEvent(event), AsStream(stream)));
}
CudaError WaitEvent(void* stream, void* event) {
  return Report(cudaStreamWaitEvent(AsStream(stream), AsEvent(event), 0));
}
CudaError QueryEvent(void* event) { return Report(cudaEventQuery(AsEvent(event))); }
CudaError SynchronizeEvent(void* event) { return Report(cudaEventSynchronize(AsEvent(event))); }
CudaError ElapsedMs(float* ms, void* start, void* stop) {
  return Report(cudaEventElapsedTime(ms, AsEvent(start), AsEvent(stop)));
}

CudaError Copy(void* to, const void* from, size_t bytes, void* stream) {
  return Report(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, AsStream(stream)));
}
CudaError SetBytes(void* memory, int value, size_t bytes, void* stream) {
  return Report(cudaMemsetAsync(memory, value, bytes, AsStream(stream)));
}

const char* ErrorName(CudaError error) { return cudaGetErrorName(static_cast<cudaError_t>(error)); }
const char* ErrorText(CudaError error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

void PushRange(const char* name) { nvtxRangePushA(name); }
void PopRange() { nvtxRangePop(); }

}  // namespace

const CudaApi& RealCudaApi() {
  static constexpr CudaApi kApi = {
      .get_device_count = GetDeviceCount,
      .get_versions = GetVersions,
      .describe_device = DescribeDevice,
      .set_device = SetDevice,
      .get_memory = GetMemory,
      .allocate = Allocate,
      .release = Release,
      .allocate_pinned = AllocatePinned,
      .release_pinned = ReleasePinned,
      .create_stream = CreateStream,
      .destroy_stream = DestroyStream,
      .synchronize_stream = SynchronizeStream,
      .create_event = CreateEvent,
      .destroy_event = DestroyEvent,
      .record_event = RecordEvent,
      .wait_event = WaitEvent,
      .query_event = QueryEvent,
      .synchronize_event = SynchronizeEvent,
      .elapsed_ms = ElapsedMs,
      .copy = Copy,
      .set_bytes = SetBytes,
      .error_name = ErrorName,
      .error_text = ErrorText,
      .push_range = PushRange,
      .pop_range = PopRange,
  };
  return kApi;
}

}  // namespace moed::cuda
