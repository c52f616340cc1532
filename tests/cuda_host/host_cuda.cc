#include "tests/cuda_host/host_cuda.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <utility>

#include "tests/cuda_host/block_runner.h"
#include "tests/cuda_host/host_calls.h"
#include "tests/cuda_host/host_memory.h"
#include "tests/cuda_host/host_streams.h"
#include "tests/cuda_host/host_work.h"
#include "tests/cuda_host/launch_log.h"

namespace moed::cuda_host {
namespace {

using cuda::CudaError;
using cuda::kCudaSuccess;

constexpr CudaError kInvalidValue = 1;
constexpr CudaError kInvalidConfiguration = 9;
constexpr CudaError kInvalidDevice = 101;
constexpr CudaError kInvalidHandle = 400;

struct Device {
  Mutex mutex;
  DeviceSettings settings ABSL_GUARDED_BY(mutex);
  HostMemory memory;
  HostStreams streams;
  HostCalls calls;

  Device() { memory.SetTotal(DeviceSettings().total_memory_bytes); }

  DeviceSettings Settings() {
    const MutexLock lock(mutex);
    return settings;
  }
};

Device& TheDevice() {
  static Device& device = *new Device;
  return device;
}

// A call of the function that is named returns here where a test wants it to fail.
#define MOED_FAIL_IF_ASKED(function)                                                           \
  do {                                                                                         \
    if (const CudaError failure = TheDevice().calls.Next(function); failure != kCudaSuccess) { \
      return failure;                                                                          \
    }                                                                                          \
  } while (false)

// Device memory is open to this thread while one of these lives.
class OpenMemory {
 public:
  OpenMemory() { TheDevice().memory.Open(); }
  ~OpenMemory() { TheDevice().memory.Close(); }
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;
};

CudaError GetDeviceCount(int* count) {
  MOED_FAIL_IF_ASKED("get_device_count");
  const DeviceSettings settings = TheDevice().Settings();
  if (settings.driver_error == kCudaSuccess) *count = settings.num_devices;
  return settings.driver_error;
}

CudaError GetVersions(int* driver, int* runtime) {
  MOED_FAIL_IF_ASKED("get_versions");
  *driver = 13000;
  *runtime = 13000;
  return kCudaSuccess;
}

CudaError DescribeDevice(int device, cuda::CudaDeviceInfo* info) {
  MOED_FAIL_IF_ASKED("describe_device");
  const DeviceSettings settings = TheDevice().Settings();
  if (device < 0 || device >= settings.num_devices) return kInvalidDevice;
  std::snprintf(info->name, sizeof(info->name), "host emulation");
  info->major = settings.major;
  info->minor = settings.minor;
  info->num_sms = settings.num_sms;
  info->total_memory_bytes = settings.total_memory_bytes;
  info->l2_cache_bytes = int64_t{32} << 20;
  info->max_shared_bytes_per_block = settings.max_shared_bytes_per_block;
  return kCudaSuccess;
}

CudaError SetCurrentDevice(int device) {
  MOED_FAIL_IF_ASKED("set_device");
  const DeviceSettings settings = TheDevice().Settings();
  return device >= 0 && device < settings.num_devices ? kCudaSuccess : kInvalidDevice;
}

CudaError GetMemory(int64_t* free_bytes, int64_t* total_bytes) {
  MOED_FAIL_IF_ASKED("get_memory");
  *free_bytes = TheDevice().memory.free_bytes();
  *total_bytes = TheDevice().memory.total_bytes();
  return kCudaSuccess;
}

CudaError Allocate(void** memory, size_t bytes, bool pinned) {
  *memory = nullptr;
  if (bytes == 0) return kCudaSuccess;
  *memory = TheDevice().memory.Allocate(bytes, pinned);
  return *memory == nullptr ? cuda::kCudaErrorMemoryAllocation : kCudaSuccess;
}

CudaError AllocateDevice(void** memory, size_t bytes) {
  MOED_FAIL_IF_ASKED("allocate");
  return Allocate(memory, bytes, /*pinned=*/false);
}

CudaError AllocatePinned(void** memory, size_t bytes) {
  MOED_FAIL_IF_ASKED("allocate_pinned");
  return Allocate(memory, bytes, /*pinned=*/true);
}

CudaError ReleaseDevice(void* memory) {
  MOED_FAIL_IF_ASKED("release");
  if (memory != nullptr) TheDevice().memory.Free(memory, /*pinned=*/false);
  return kCudaSuccess;
}

CudaError ReleasePinned(void* memory) {
  MOED_FAIL_IF_ASKED("release_pinned");
  if (memory != nullptr) TheDevice().memory.Free(memory, /*pinned=*/true);
  return kCudaSuccess;
}

CudaError CreateStream(void** stream) {
  MOED_FAIL_IF_ASKED("create_stream");
  *stream = TheDevice().streams.CreateStream();
  return kCudaSuccess;
}

CudaError DestroyStream(void* stream) {
  MOED_FAIL_IF_ASKED("destroy_stream");
  if (stream == nullptr) return kInvalidHandle;
  const OpenMemory open;
  TheDevice().streams.DestroyStream(stream);
  return kCudaSuccess;
}

CudaError SynchronizeStream(void* stream) {
  MOED_FAIL_IF_ASKED("synchronize_stream");
  const OpenMemory open;
  TheDevice().streams.Synchronize(stream);
  return kCudaSuccess;
}

CudaError CreateEvent(void** event, bool timed) {
  MOED_FAIL_IF_ASKED("create_event");
  *event = TheDevice().streams.CreateEvent(timed);
  return kCudaSuccess;
}

CudaError DestroyEvent(void* event) {
  MOED_FAIL_IF_ASKED("destroy_event");
  TheDevice().streams.DestroyEvent(event);
  return kCudaSuccess;
}

CudaError RecordEvent(void* event, void* stream) {
  MOED_FAIL_IF_ASKED("record_event");
  TheDevice().streams.Record(event, stream);
  return kCudaSuccess;
}

CudaError WaitEvent(void* stream, void* event) {
  MOED_FAIL_IF_ASKED("wait_event");
  TheDevice().streams.Wait(stream, event);
  return kCudaSuccess;
}

CudaError QueryEvent(void* event) {
  MOED_FAIL_IF_ASKED("query_event");
  const OpenMemory open;
  return TheDevice().streams.Query(event) ? kCudaSuccess : cuda::kCudaErrorNotReady;
}

CudaError SynchronizeEvent(void* event) {
  MOED_FAIL_IF_ASKED("synchronize_event");
  const OpenMemory open;
  TheDevice().streams.SynchronizeEvent(event);
  return kCudaSuccess;
}

CudaError ElapsedMs(float* ms, void* start, void* stop) {
  MOED_FAIL_IF_ASKED("elapsed_ms");
  const double seconds = TheDevice().streams.ElapsedSeconds(start, stop);
  if (seconds < 0) return cuda::kCudaErrorNotReady;
  *ms = static_cast<float>(seconds * 1e3);
  return kCudaSuccess;
}

CudaError Copy(void* to, const void* from, size_t bytes, void* stream) {
  MOED_FAIL_IF_ASKED("copy");
  if (bytes == 0) return kCudaSuccess;
  if (to == nullptr || from == nullptr) return kInvalidValue;
  TheDevice().memory.CheckRange(to, bytes, "a copy to");
  TheDevice().memory.CheckRange(from, bytes, "a copy from");
  const auto* source = static_cast<const std::byte*>(from);
  auto* target = static_cast<std::byte*>(to);
  if (std::less<>()(source, target + bytes) && std::less<>()(target, source + bytes)) {
    Misuse("a copy overlaps itself");
  }
  EnqueueWork(stream, [to, from, bytes] {
    TheDevice().memory.CheckRange(to, bytes, "a copy to");
    TheDevice().memory.CheckRange(from, bytes, "a copy from");
    std::memcpy(to, from, bytes);
  });
  return kCudaSuccess;
}

CudaError SetBytes(void* memory, int value, size_t bytes, void* stream) {
  MOED_FAIL_IF_ASKED("set_bytes");
  if (bytes == 0) return kCudaSuccess;
  if (memory == nullptr) return kInvalidValue;
  TheDevice().memory.CheckDeviceRange(memory, bytes, "a fill");
  EnqueueWork(stream, [memory, value, bytes] {
    TheDevice().memory.CheckDeviceRange(memory, bytes, "a fill");
    std::memset(memory, value, bytes);
  });
  return kCudaSuccess;
}

struct ErrorText {
  CudaError error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {0, "cudaSuccess", "no error"},
    {1, "cudaErrorInvalidValue", "invalid argument"},
    {2, "cudaErrorMemoryAllocation", "out of memory"},
    {9, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {35, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {100, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {101, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {400, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {600, "cudaErrorNotReady", "device not ready"},
    {700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {719, "cudaErrorLaunchFailure", "unspecified launch failure"},
};

const ErrorText& TextOf(CudaError error) {
  static constexpr ErrorText kUnknown{-1, "cudaErrorUnknown", "unknown error"};
  const auto* const found = std::find_if(std::begin(kErrors), std::end(kErrors),
                                         [error](const ErrorText& e) { return e.error == error; });
  return found == std::end(kErrors) ? kUnknown : *found;
}

}  // namespace

const cuda::CudaApi& HostCudaApi() {
  static const cuda::CudaApi api{
      .get_device_count = GetDeviceCount,
      .get_versions = GetVersions,
      .describe_device = DescribeDevice,
      .set_device = SetCurrentDevice,
      .get_memory = GetMemory,
      .allocate = AllocateDevice,
      .release = ReleaseDevice,
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
      .error_name = [](CudaError error) { return TextOf(error).name; },
      .error_text = [](CudaError error) { return TextOf(error).text; },
      .push_range = [](const char*) {},
      .pop_range = [] {},
  };
  return api;
}

void EnqueueWork(void* stream, std::function<void()> work) {
  Device& device = TheDevice();
  device.streams.Enqueue(stream, std::move(work));
  if (device.Settings().run_at_once) {
    const OpenMemory open;
    device.streams.Synchronize(stream);
  }
}

void CheckDeviceMemory(const void* memory, size_t bytes, const char* what) {
  TheDevice().memory.CheckDeviceRange(memory, bytes, what);
}

cuda::LaunchError EnqueueKernel(void* stream, KernelCall call) {
  MOED_FAIL_IF_ASKED("launch_kernel");
  const dim3& block = call.block;
  const dim3& grid = call.grid;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const int64_t max_shared = TheDevice().Settings().max_shared_bytes_per_block;
  if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.x > 0x7fffffffU ||
      grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535 ||
      static_cast<int64_t>(call.shared_bytes) > max_shared) {
    return kInvalidConfiguration;
  }
  EnqueueWork(stream, [call = std::move(call)] {
    RunKernel(call);
    LogLaunch(call.expression);
  });
  return kCudaSuccess;
}

void SetDevice(const DeviceSettings& settings) {
  Device& device = TheDevice();
  if (const LiveObjects live = CountLiveObjects();
      live.allocations + live.pinned_allocations + live.streams > 0) {
    Misuse("the device is changed while something is allocated on it");
  }
  ClearFailures();
  device.memory.SetTotal(settings.total_memory_bytes);
  const MutexLock lock(device.mutex);
  device.settings = settings;
}

void FailCall(const std::string& function, int nth, CudaError error, bool sticky) {
  TheDevice().calls.Fail(function, nth, error, sticky);
}

void ClearFailures() { TheDevice().calls.ClearFailures(); }

CallCounts CudaCallCounts() { return TheDevice().calls.counts(); }

void ResetCudaCallCounts() { TheDevice().calls.ResetCounts(); }

LiveObjects CountLiveObjects() {
  Device& device = TheDevice();
  return {.allocations = device.memory.num_allocations(/*pinned=*/false),
          .pinned_allocations = device.memory.num_allocations(/*pinned=*/true),
          .streams = device.streams.num_streams(),
          .events = device.streams.num_events()};
}

int64_t CountPendingOperations() { return TheDevice().streams.num_pending(); }

}  // namespace moed::cuda_host
