// What the stand-ins share: work of any kind on the device's streams.
#pragma once

#include <cstddef>
#include <functional>

namespace moed::cuda_host {

// Puts work on a stream of HostCudaApi.
void EnqueueWork(void* stream, std::function<void()> work);

// Aborts unless the range lies in one allocation of device memory; `what` is the text.
void CheckDeviceMemory(const void* memory, size_t bytes, const char* what);

}  // namespace moed::cuda_host
