// What the tests of the matrix products share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/gemm.h"
#include "tests/kernels/cpu/kernel_test.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda {

struct GemmCase {
  DType act;
  bool deterministic;
};
std::string GemmCaseName(const testing::TestParamInfo<GemmCase>& info);

class GemmTest : public DeviceTest, public testing::WithParamInterface<GemmCase> {
 protected:
  GemmTest();

  DType act() const { return GetParam().act; }
  std::unique_ptr<GemmKernels> MakeKernels(const GemmApi* gemm_api, bool deterministic);
  // Of the case, without a library, its workspace prepared for TestLimits.
  GemmKernels& kernels() { return *kernels_; }

  std::unique_ptr<LinearWeight> Pack(GemmKernels& kernels, const Tensor& weight);
  // The result of kernels.Linear on the device, with `out` as what is there before.
  Tensor Linear(GemmKernels& kernels, const Tensor& x, const LinearWeight& weight, Tensor out,
                bool accumulate = false);

  // The reference on the CPU.
  Backend& reference() { return *reference_; }
  Stream& reference_stream() { return *reference_stream_; }
  Tensor ReferenceLinear(const Tensor& x, const Tensor& weight, Tensor out, bool accumulate);

  static WorkspaceLimits SmallLimits();

 private:
  std::unique_ptr<GemmKernels> kernels_;
  std::unique_ptr<Backend> reference_;
  std::unique_ptr<Stream> reference_stream_;
};

// Rows of `x` in this order.
Tensor TakeRows(const Tensor& x, const std::vector<int32_t>& rows);
// 0, 1, ... count - 1.
std::vector<int32_t> Range(int32_t count);

}  // namespace moed::cuda
