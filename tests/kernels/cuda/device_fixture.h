// What the tests of the CUDA kernels share: the device of the emulation (tests/cuda_host), a stream
// on it, and tensors that go there and back.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/core/buffer.h"
#include "kernels/core/tensor_view.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"
#include "tests/cuda_host/host_cuda.h"

namespace moed::cuda {

// An array of T in device memory. What is not uploaded starts as 0xCD in every byte.
template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(Buffer buffer, int64_t size) : buffer_(std::move(buffer)), size_(size) {}

  int64_t size() const { return size_; }
  T* data() const { return static_cast<T*>(buffer_.data()); }
  // Of the first elements.
  TensorView View(std::initializer_list<int64_t> shape) const {
    return buffer_.View(DTypeOf<T>::kValue, shape);
  }
  TensorView View() const { return View({size_}); }

 private:
  Buffer buffer_;
  int64_t size_ = 0;
};

class DeviceTest : public testing::Test {
 protected:
  DeviceTest();
  ~DeviceTest() override;

  const CudaApi& api() const { return api_; }
  CudaMemory& memory() { return *memory_; }
  CudaStream& stream() { return *stream_; }

  template <typename T>
  DeviceArray<T> Make(int64_t size) {
    return DeviceArray<T>(MakeBytes(size * static_cast<int64_t>(sizeof(T))), size);
  }
  template <typename T>
  DeviceArray<T> Upload(const std::vector<T>& values) {
    DeviceArray<T> array = Make<T>(static_cast<int64_t>(values.size()));
    CopyNow(array.data(), values.data(), values.size() * sizeof(T));
    return array;
  }
  // Once the stream has run all before.
  template <typename T>
  std::vector<T> Download(const DeviceArray<T>& array) {
    std::vector<T> values(static_cast<size_t>(array.size()));
    CopyNow(values.data(), array.data(), values.size() * sizeof(T));
    return values;
  }
  // Raw bytes likewise, for tensors whose dtype is chosen at run time.
  Buffer UploadView(ConstTensorView host);
  void DownloadView(ConstTensorView device, TensorView host);

  // Runs the stream; fails the test with the first error of what was enqueued.
  void Run();

  // Calls `run` under each order of blocks and threads, with the order in the trace of a failure.
  static void UnderEachBlockOrder(const std::function<void()>& run);

 private:
  Buffer MakeBytes(int64_t bytes);
  void CopyNow(void* to, const void* from, size_t bytes);

  const CudaApi& api_;
  std::unique_ptr<CudaMemory> memory_;
  std::unique_ptr<CudaStream> stream_;
};

}  // namespace moed::cuda
