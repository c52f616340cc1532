// The CUDA runtime on host memory: one device whose work is done by the threads that wait for it.
//
// What is put on a stream (kernels, copies, events) does not run before somebody synchronises with
// it or asks for an event behind it, and then in the stream's order. So memory that is reused too
// early, a wait that is missing, or a pointer to something that is gone shows as a wrong result or
// a sanitizer's report. All functions may be called from several threads. Misuse (an unknown
// handle, a copy past the end of an allocation, memory released twice) aborts with a text. Device
// memory starts filled with 0xCD, ends at a red zone under AddressSanitizer, and is closed to the
// host there while no work runs. Nothing waits that the caller did not ask for: not even release,
// which in CUDA may.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/cuda/cuda_api.h"
#include "tests/cuda_host/block_order.h"
#include "tests/cuda_host/host_calls.h"

namespace moed::cuda_host {

struct DeviceSettings {
  int num_devices = 1;  // they share memory and streams; only the count is told
  // What get_device_count returns: kCudaErrorInsufficientDriver without a driver.
  cuda::CudaError driver_error = cuda::kCudaSuccess;
  int64_t total_memory_bytes = int64_t{16} << 30;
  int num_sms = 4;
  int major = 9;
  int minor = 0;
  int64_t max_shared_bytes_per_block = 227 * 1024;
  bool run_at_once = false;  // for debugging: calls run before they return
};

const cuda::CudaApi& HostCudaApi();

// In force at once. Injected failures are forgotten. Nothing may be allocated.
void SetDevice(const DeviceSettings& settings = {});

// The `nth` call from now (1: the next) of the function of CudaApi with this name, or of
// "launch_kernel", does nothing and returns `error`. `sticky`: so does every later call of
// anything, as after a fault on a device, until SetDevice or ClearFailures.
void FailCall(const std::string& function, int nth, cuda::CudaError error, bool sticky = false);
void ClearFailures();

// By the names that FailCall takes, since the program started or the last reset.
CallCounts CudaCallCounts();
void ResetCudaCallCounts();

// What has not been released or destroyed.
struct LiveObjects {
  int64_t allocations = 0;
  int64_t pinned_allocations = 0;
  int64_t streams = 0;
  int64_t events = 0;
};
LiveObjects CountLiveObjects();

// Operations that were enqueued and have not run.
int64_t CountPendingOperations();

}  // namespace moed::cuda_host
