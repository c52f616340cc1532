// Tests that run an operation on the emulated device and on the CPU's reference backend.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/cpu/kernel_test.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda {

class ReferenceTest : public DeviceTest {
 protected:
  // The reference backend of a dtype, made when first asked for.
  Backend& cpu(DType act) {
    std::unique_ptr<Backend>& backend = cpu_[act == DType::kFloat32 ? 0 : 1];
    if (backend == nullptr) backend = MakeTestBackend({Kernels::kReference, act});
    return *backend;
  }
  Stream& cpu_stream() { return cpu_stream_; }

  // A copy of the tensor in device memory, which lives as long as the test. The device's rows begin
  // `shift` elements into their memory, so that their addresses are not aligned.
  TensorView Put(const Tensor& host, int64_t shift = 0) {
    const ConstTensorView view = host;
    const auto size = static_cast<size_t>(view.bytes());
    const auto ahead = static_cast<size_t>(shift * DTypeBytes(view.dtype()));
    std::vector<uint16_t> shifted((ahead + size) / sizeof(uint16_t));
    if (size > 0) std::memcpy(reinterpret_cast<char*>(shifted.data()) + ahead, view.raw(), size);
    buffers_.push_back(UploadView(
        ConstTensorView(shifted.data(), DType::kBFloat16, {static_cast<int64_t>(shifted.size())})));
    char* data = static_cast<char*>(buffers_.back().data());
    return SameShape(data == nullptr ? nullptr : data + ahead, view);
  }

  // What the device has, in a tensor of `like`'s dtype and shape.
  Tensor Get(TensorView device, Tensor like) {
    DownloadView(device, like.view());
    return like;
  }

 private:
  static TensorView SameShape(void* data, const ConstTensorView& like) {
    const DType dtype = like.dtype();
    switch (like.rank()) {
      case 1:
        return TensorView(data, dtype, {like.dim(0)});
      case 2:
        return TensorView(data, dtype, {like.dim(0), like.dim(1)});
      case 3:
        return TensorView(data, dtype, {like.dim(0), like.dim(1), like.dim(2)});
      default:
        return TensorView(data, dtype, {like.dim(0), like.dim(1), like.dim(2), like.dim(3)});
    }
  }

  std::unique_ptr<Backend> cpu_[2];
  Stream cpu_stream_;
  std::vector<Buffer> buffers_;
};

// Of both activation dtypes.
class ReferenceActTest : public ReferenceTest, public testing::WithParamInterface<DType> {
 protected:
  DType act() const { return GetParam(); }
};
inline std::string ActName(const testing::TestParamInfo<DType>& info) {
  return info.param == DType::kFloat32 ? "Float32" : "BFloat16";
}

// |got - want| <= relative * |want| + absolute for every element; prints the worst.
inline void ExpectNear(const Tensor& got, const Tensor& want, double relative, double absolute,
                       const std::string& what) {
  std::vector<double> values;
  std::vector<double> allowed;
  for (const float value : want.floats()) {
    values.push_back(value);
    allowed.push_back(relative * std::abs(static_cast<double>(value)) + absolute);
  }
  ExpectClose(got.floats(), values, allowed, what);
}

}  // namespace moed::cuda
