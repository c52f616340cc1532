// The CUDA runtime as the backend sees it: one table of functions, so that tests can put host
// memory in its place. Free of the toolkit's headers: all that is above the table compiles on any
// machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moed::cuda {

// cudaError_t; 0 is success.
using CudaError = int;
inline constexpr CudaError kCudaSuccess = 0;
inline constexpr CudaError kCudaErrorMemoryAllocation = 2;
inline constexpr CudaError kCudaErrorInsufficientDriver = 35;  // no driver, or one that is too old
inline constexpr CudaError kCudaErrorNoDevice = 100;
inline constexpr CudaError kCudaErrorNotReady = 600;  // of query_event: not reached yet, no failure

// What the backend needs to know of a device.
struct CudaDeviceInfo {
  char name[256] = "";
  int major = 0;  // compute capability
  int minor = 0;
  int num_sms = 0;
  int64_t total_memory_bytes = 0;
  int64_t l2_cache_bytes = 0;
  int64_t max_shared_bytes_per_block = 0;  // with opt-in
};

// Each function is the call of the CUDA runtime that its comment names, with its contract, and may
// be called from any thread. Handles (stream, event) are opaque.
struct CudaApi {
  CudaError (*get_device_count)(int* count);  // cudaGetDeviceCount; does not write it on failure
  CudaError (*get_versions)(int* driver, int* runtime);  // cudaDriver/RuntimeGetVersion: 13000
  CudaError (*describe_device)(int device, CudaDeviceInfo* info);      // cudaGetDeviceProperties
  CudaError (*set_device)(int device);                                 // of the calling thread
  CudaError (*get_memory)(int64_t* free_bytes, int64_t* total_bytes);  // cudaMemGetInfo

  CudaError (*allocate)(void** memory, size_t bytes);         // cudaMalloc
  CudaError (*release)(void* memory);                         // cudaFree
  CudaError (*allocate_pinned)(void** memory, size_t bytes);  // cudaMallocHost
  CudaError (*release_pinned)(void* memory);                  // cudaFreeHost

  CudaError (*create_stream)(void** stream);  // cudaStreamNonBlocking
  CudaError (*destroy_stream)(void* stream);
  CudaError (*synchronize_stream)(void* stream);
  CudaError (*create_event)(void** event, bool timed);  // cudaEventDisableTiming unless timed
  CudaError (*destroy_event)(void* event);
  CudaError (*record_event)(void* event, void* stream);
  CudaError (*wait_event)(void* stream, void* event);  // cudaStreamWaitEvent
  CudaError (*query_event)(void* event);
  CudaError (*synchronize_event)(void* event);
  CudaError (*elapsed_ms)(float* ms, void* start, void* stop);  // cudaEventElapsedTime

  // cudaMemcpyAsync with cudaMemcpyDefault: the addresses tell the direction.
  CudaError (*copy)(void* to, const void* from, size_t bytes, void* stream);
  CudaError (*set_bytes)(void* memory, int value, size_t bytes, void* stream);  // cudaMemsetAsync

  const char* (*error_name)(CudaError error);  // "cudaErrorNoDevice"
  const char* (*error_text)(CudaError error);  // cudaGetErrorString

  // NVTX ranges of the calling thread, for profilers.
  void (*push_range)(const char* name);
  void (*pop_range)();
};

}  // namespace moed::cuda
