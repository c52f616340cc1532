#include "tests/kernels/cuda/device_fixture.h"

#include <utility>

#include "kernels/core/check.h"

namespace moed::cuda {
namespace {

CudaDeviceInfo Describe(const CudaApi& api) {
  CudaDeviceInfo info;
  MOED_CHECK(api.describe_device(0, &info) == kCudaSuccess, "the emulation has a device");
  return info;
}

}  // namespace

DeviceTest::DeviceTest()
    : api_(cuda_host::HostCudaApi()), memory_(std::make_unique<CudaMemory>(api_, 0)) {
  auto stream = CudaStream::Create(api_, Describe(api_));
  MOED_CHECK(stream.ok(), "the emulation gives streams");
  stream_ = *std::move(stream);
}

DeviceTest::~DeviceTest() { cuda_host::SetBlockOrder(cuda_host::BlockOrder::kForward); }

Buffer DeviceTest::MakeBytes(int64_t bytes) {
  if (bytes == 0) return Buffer();
  absl::StatusOr<Buffer> buffer = memory_->Allocate(MemoryKind::kActivations, bytes);
  MOED_CHECK(buffer.ok(), "no device memory left");
  // Zeroed memory would hide what a kernel leaves unwritten.
  api_.set_bytes(buffer->data(), 0xCD, static_cast<size_t>(bytes), stream_->handle());
  Run();
  return *std::move(buffer);
}

void DeviceTest::CopyNow(void* to, const void* from, size_t bytes) {
  stream_->Note(api_.copy(to, from, bytes, stream_->handle()), "copying");
  Run();
}

Buffer DeviceTest::UploadView(ConstTensorView host) {
  Buffer buffer = MakeBytes(host.bytes());
  CopyNow(buffer.data(), host.raw(), static_cast<size_t>(host.bytes()));
  return buffer;
}

void DeviceTest::DownloadView(ConstTensorView device, TensorView host) {
  MOED_CHECK(device.bytes() == host.bytes(), "a copy between tensors of different sizes");
  CopyNow(host.raw(), device.raw(), static_cast<size_t>(host.bytes()));
}

void DeviceTest::Run() {
  const absl::Status status = stream_->Synchronize();
  EXPECT_TRUE(status.ok()) << status;
}

void DeviceTest::UnderEachBlockOrder(const std::function<void()>& run) {
  using cuda_host::BlockOrder;
  struct Case {
    BlockOrder order;
    const char* name;
  };
  for (const Case& c :
       {Case{BlockOrder::kForward, "forward"}, Case{BlockOrder::kReverse, "reverse"},
        Case{BlockOrder::kSeeded, "seeded"}}) {
    const testing::ScopedTrace trace(__FILE__, __LINE__, std::string("block order: ") + c.name);
    cuda_host::SetBlockOrder(c.order, /*seed=*/7);
    run();
  }
  cuda_host::SetBlockOrder(BlockOrder::kForward);
}

}  // namespace moed::cuda
