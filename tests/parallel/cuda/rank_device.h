// What a rank thread of a test has of the emulated device, and a group of such ranks.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/core/buffer.h"
#include "kernels/core/tensor_view.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"
#include "parallel/cuda/virtual_rank_communicator.h"
#include "tests/cuda_host/host_cuda.h"
#include "tests/parallel/rank_threads.h"

namespace moed::cuda {

using Numbers = std::vector<int64_t>;

inline std::shared_ptr<VirtualRankGroup> MakeVirtualGroup(
    int num_ranks, std::chrono::milliseconds deadline = kPatience,
    const CudaApi& api = cuda_host::HostCudaApi()) {
  VirtualRankGroupOptions options;
  options.api = &api;
  options.deadline = deadline;
  return VirtualRankGroup::Create(num_ranks, options).value();
}

// Rows of int64 in device memory.
struct DeviceRows {
  Buffer buffer;
  int64_t num_rows = 0;
  int64_t width = 1;

  TensorView view() const { return TensorView(buffer.data(), DType::kInt64, {num_rows, width}); }
};

// A stream and memory. All but Get enqueues only: nothing has run until somebody waits.
class RankDevice {
 public:
  explicit RankDevice(const CudaApi& api = cuda_host::HostCudaApi()) : memory_(api, 0) {
    CudaDeviceInfo info;
    MOED_CHECK(api.describe_device(0, &info) == kCudaSuccess, "the emulation has a device");
    stream_ = CudaStream::Create(api, info).value();
  }

  CudaStream& stream() { return *stream_; }

  DeviceRows Put(Numbers numbers, int64_t width = 1) {
    DeviceRows rows = Make(static_cast<int64_t>(numbers.size()) / width, width);
    uploads_.push_back(std::move(numbers));
    const Numbers& kept = uploads_.back();
    Copy(rows.buffer.data(), kept.data(), kept.size() * sizeof(int64_t));
    return rows;
  }
  // Every number is -1.
  DeviceRows Make(int64_t num_rows, int64_t width = 1) {
    const int64_t bytes = num_rows * width * static_cast<int64_t>(sizeof(int64_t));
    DeviceRows rows{memory_.Allocate(MemoryKind::kExchange, bytes).value(), num_rows, width};
    Fill(rows, 0xFF);
    return rows;
  }
  void Fill(const DeviceRows& rows, int byte) {
    const auto bytes = static_cast<size_t>(rows.view().bytes());
    if (bytes == 0) return;
    stream_->Note(api().set_bytes(rows.buffer.data(), byte, bytes, stream_->handle()), "filling");
  }
  // Once the stream has run.
  Numbers Get(const DeviceRows& rows) {
    Numbers numbers(static_cast<size_t>(rows.num_rows * rows.width));
    Copy(numbers.data(), rows.buffer.data(), numbers.size() * sizeof(int64_t));
    const absl::Status status = stream_->Synchronize();
    EXPECT_TRUE(status.ok()) << status;
    return numbers;
  }

 private:
  const CudaApi& api() const { return memory_.api(); }
  void Copy(void* to, const void* from, size_t bytes) {
    if (bytes > 0) stream_->Note(api().copy(to, from, bytes, stream_->handle()), "copying");
  }

  CudaMemory memory_;
  std::deque<Numbers> uploads_;  // until the stream has run
  std::unique_ptr<CudaStream> stream_;
};

}  // namespace moed::cuda
