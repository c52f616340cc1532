// What the kernel tests share: tensors with values, every kind of backend, and comparisons that
// print the worst element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/core/float_types.h"

namespace moed {

// A tensor with its memory. Values are given and read as floats and kept in the tensor's dtype.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, std::vector<int64_t> shape);
  // Standard normal values times `scale`, from `seed` alone.
  static Tensor Random(DType dtype, std::vector<int64_t> shape, uint32_t seed, float scale = 1.0F);
  static Tensor Of(DType dtype, std::vector<int64_t> shape, const std::vector<float>& values);
  static Tensor Ints(std::vector<int64_t> shape, const std::vector<int32_t>& values);

  TensorView view();
  operator ConstTensorView() const;  // NOLINT(google-explicit-constructor)

  int64_t dim(int axis) const { return shape_[static_cast<size_t>(axis)]; }
  int64_t size() const;
  float at(int64_t i) const;
  void set(int64_t i, float value);
  int32_t int_at(int64_t i) const;
  std::vector<float> floats() const;
  std::vector<int32_t> ints() const;
  // The bytes of rows [begin, begin + count).
  std::string bytes(int64_t begin, int64_t count) const;
  std::string bytes() const { return bytes(0, dim(0)); }

 private:
  DType dtype_ = DType::kFloat32;
  std::vector<int64_t> shape_;
  std::vector<std::byte> memory_;
};

// The kinds of kernels. kBaseline is what kPortable runs on a CPU without AVX2.
enum class Kernels { kReference, kBaseline, kPortable, kAvx512Bf16 };

struct KernelCase {
  Kernels kernels;
  DType act;
};
std::string KernelCaseName(const testing::TestParamInfo<KernelCase>& info);

// All kernels in float32 and bfloat16.
std::vector<KernelCase> AllKernelCases();
std::vector<KernelCase> FastKernelCases();

// Null where this CPU cannot run them; the workspace is prepared for the sizes of these tests.
std::unique_ptr<Backend> MakeTestBackend(const KernelCase& kernel_case, int num_threads = 1);
WorkspaceLimits TestLimits();

// A fixture with a backend of the case; skips where the CPU cannot run it.
class KernelTest : public testing::TestWithParam<KernelCase> {
 protected:
  void SetUp() override;

  DType act() const { return GetParam().act; }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
};

// Half a unit in the last place of the activation dtype, relative: the rounding of one store.
double StoreEpsilon(DType dtype);

// |got[i] - want[i]| <= allowed[i] for all i; prints the element that is worst against its bound.
void ExpectClose(const std::vector<float>& got, const std::vector<double>& want,
                 const std::vector<double>& allowed, const std::string& what);

}  // namespace moed
