// GatherRows, Combine, FillSeeded and Convert against the CPU's reference.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cuda/row_ops.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/reference_fixture.h"

namespace moed::cuda {
namespace {

class CudaCopyTest : public ReferenceActTest {};
INSTANTIATE_TEST_SUITE_P(Act, CudaCopyTest, testing::Values(DType::kFloat32, DType::kBFloat16),
                         ActName);

// Bits that no dtype reads as another's rounding.
Tensor Counted(DType dtype, std::vector<int64_t> shape) {
  Tensor tensor(dtype, std::move(shape));
  auto* bytes = static_cast<unsigned char*>(tensor.view().raw());
  for (int64_t i = 0; i < tensor.view().bytes(); ++i) {
    bytes[i] = static_cast<unsigned char>(i * 7 + i / 256);
  }
  return tensor;
}

TEST_P(CudaCopyTest, GatherRowsCopiesRowsOfEveryWidth) {
  const std::vector<int32_t> rows = {4, 4, 0, 1, 3, 2, 0};
  for (const DType dtype : {act(), DType::kInt32, DType::kInt64}) {
    // Short and long rows of units of every size; the longest have several parts.
    for (const int64_t width : {1, 2, 3, 7, 8, 63, 255, 256, 260, 1023, 1024, 4104, 4102}) {
      const Tensor x = Counted(dtype, {5, width});
      Tensor want(dtype, {7, width});
      cpu(act()).GatherRows(cpu_stream(), {x, Tensor::Ints({7}, rows), want.view()});
      const TensorView device_x = Put(x);
      const TensorView index = Put(Tensor::Ints({7}, rows));
      const TensorView out = Put(Tensor(dtype, {7, width}));
      GatherRows(stream(), {device_x, index, out});
      EXPECT_EQ(Get(out, want).bytes(), want.bytes()) << DTypeName(dtype) << " width " << width;
    }
  }
}

TEST_P(CudaCopyTest, GatherRowsUnderEveryBlockOrderAndAlignment) {
  const Tensor x = Counted(act(), {9, 12});
  std::vector<int32_t> rows;
  for (int32_t i = 0; i < 500; ++i) rows.push_back(i * 5 % 9);
  const Tensor index = Tensor::Ints({500}, rows);
  Tensor want(act(), {500, 12});
  cpu(act()).GatherRows(cpu_stream(), {x, index, want.view()});
  for (const int64_t shift : {0, 1, 2, 4}) {
    UnderEachBlockOrder([&] {
      const TensorView out = Put(Tensor(act(), {500, 12}));
      GatherRows(stream(), {Put(x, shift), Put(index), out});
      EXPECT_EQ(Get(out, want).bytes(), want.bytes()) << "shift " << shift;
    });
  }
}

// A copy of a whole tensor is one row.
TEST_P(CudaCopyTest, GatherRowsCopiesOneLongRow) {
  for (const int64_t width : {200000, 200001}) {
    const Tensor x = Counted(act(), {2, width});
    const TensorView out = Put(Tensor(act(), {1, width}));
    GatherRows(stream(), {Put(x), Put(Tensor::Ints({1}, {1})), out});
    EXPECT_EQ(Get(out, Tensor(act(), {1, width})).bytes(), x.bytes(1, 1)) << "width " << width;
  }
}

TEST_P(CudaCopyTest, CombineMatchesTheReference) {
  for (const int64_t hidden : {1, 7, 8, 72, 1032, 2051}) {
    for (const int64_t top_k : {1, 2, 3, 5}) {
      Tensor contributions = Tensor::Random(act(), {8, hidden}, 9);
      for (int64_t i = 0; i < hidden; ++i) contributions.set(5 * hidden + i, NAN);
      std::vector<int32_t> index;
      for (int32_t pair = 0; pair < 4 * top_k; ++pair) {
        const int32_t place = pair * 3 % 8;
        index.push_back(pair < top_k || place == 5 ? -1 : place);  // row 0 gets nothing
      }
      const Tensor places = Tensor::Ints({4, top_k}, index);
      const Tensor weights = Tensor::Random(DType::kFloat32, {4, top_k}, 10);
      const Tensor residual = Tensor::Random(DType::kFloat32, {4, hidden}, 11);
      Tensor want = residual;
      cpu(act()).Combine(cpu_stream(), {contributions, places, weights, want.view()});
      UnderEachBlockOrder([&] {
        const TensorView got = Put(residual);
        Combine(stream(), {Put(contributions), Put(places), Put(weights), got});
        // Products are fused into the sum on some devices, not on others.
        ExpectNear(Get(got, want), want, 1e-6, 2e-6,
                   "hidden " + std::to_string(hidden) + " top " + std::to_string(top_k));
      });
    }
  }
}

// In float32 1e8 + 1 is 1e8.
TEST_P(CudaCopyTest, CombineAddsTheTermsInOrderAndThenTheResidual) {
  const Tensor contributions = Tensor::Of(act(), {1, 1}, {1});
  const Tensor index(DType::kInt32, {3, 3});
  const Tensor weights =
      Tensor::Of(DType::kFloat32, {3, 3}, {1e8F, 1, 0, 1e8F, -1e8F, 1, 1, 1e8F, -1e8F});
  const TensorView residual = Put(Tensor::Of(DType::kFloat32, {3, 1}, {-1e8F, 0, 0}));
  Combine(stream(), {Put(contributions), Put(index), Put(weights), residual});
  EXPECT_EQ(Get(residual, Tensor(DType::kFloat32, {3, 1})).floats(), (std::vector<float>{0, 1, 0}));
}

TEST_P(CudaCopyTest, FillSeededMakesTheBitsOfTheCpu) {
  for (const uint64_t key : {uint64_t{0}, uint64_t{0x123456789abcdef0}, ~uint64_t{0}}) {
    for (const int64_t count : {1, 7, 8, 9, 2047, 4099}) {
      for (const int64_t shift : {0, 3}) {
        Tensor want(act(), {count});
        cpu(act()).FillSeeded(cpu_stream(), {key, want.view()});
        UnderEachBlockOrder([&] {
          const TensorView out = Put(Tensor(act(), {count}), shift);
          FillSeeded(stream(), {key, out});
          EXPECT_EQ(Get(out, want).bytes(), want.bytes()) << count << " elements, key " << key;
        });
      }
    }
  }
}

TEST_P(CudaCopyTest, NothingToDoLaunchesNothing) {
  const TensorView none = Put(Tensor(act(), {0, 8}));
  const TensorView no_floats = Put(Tensor(DType::kFloat32, {0, 2}));
  const TensorView no_ints = Put(Tensor::Ints({0}, {}));
  const TensorView residual = Put(Tensor(DType::kFloat32, {0, 8}));
  Run();
  const auto before = cuda_host::LaunchCounts();
  GatherRows(stream(), {none, no_ints, none});
  Combine(stream(), {none, TensorView(nullptr, DType::kInt32, {0, 2}), no_floats, residual});
  FillSeeded(stream(), {1, none});
  Convert(stream(), none, none);
  Run();
  EXPECT_EQ(cuda_host::LaunchCounts(), before);
}

class CudaConvertTest : public ReferenceTest {
 protected:
  // What Backend::PackTensor of the CPU makes of it.
  void ExpectAsTheCpu(const ConstTensorView& from, DType to, const std::string& what) {
    auto packed = cpu(DType::kFloat32).PackTensor(from, to);
    ASSERT_TRUE(packed.ok()) << packed.status();
    const std::string want(static_cast<const char*>(packed->data()),
                           static_cast<size_t>(from.num_elements() * DTypeBytes(to)));
    const Buffer source = UploadView(from);
    const TensorView out = Put(Tensor(to, {from.num_elements()}));
    Convert(stream(), source.View(from.dtype(), {from.num_elements()}), out);
    EXPECT_EQ(Get(out, Tensor(to, {from.num_elements()})).bytes(), want) << what;
  }
};

TEST_F(CudaConvertTest, EveryFloat16) {
  std::vector<uint16_t> bits;
  for (uint32_t i = 0; i < 65536; ++i) bits.push_back(static_cast<uint16_t>(i));
  const ConstTensorView all(bits.data(), DType::kFloat16, {65536});
  ExpectAsTheCpu(all, DType::kFloat32, "to float32");
  ExpectAsTheCpu(all, DType::kBFloat16, "to bfloat16");
}

TEST_F(CudaConvertTest, OddSizesAndSpecialValues) {
  using Limits = std::numeric_limits<float>;
  for (const int64_t count : {1, 5, 8, 13, 2050}) {
    Tensor floats = Tensor::Random(DType::kFloat32, {count}, 12);
    const std::vector<float> special = {Limits::quiet_NaN(), -Limits::infinity(), -0.0F,
                                        Limits::denorm_min(), Limits::max()};
    for (size_t i = 0; i < special.size() && static_cast<int64_t>(i) < count; ++i) {
      floats.set(static_cast<int64_t>(i), special[i]);
    }
    Tensor halves(DType::kBFloat16, {count});
    for (int64_t i = 0; i < count; ++i) halves.set(i, floats.at(i));
    for (const DType to : {DType::kFloat32, DType::kBFloat16}) {
      ExpectAsTheCpu(floats, to, "float32, " + std::to_string(count));
      ExpectAsTheCpu(halves, to, "bfloat16, " + std::to_string(count));
    }
  }
}

TEST_F(CudaConvertTest, AddressesThatAreNotAligned) {
  const Tensor floats = Tensor::Random(DType::kFloat32, {21}, 13);
  Tensor want(DType::kBFloat16, {21});
  for (int64_t i = 0; i < 21; ++i) want.set(i, floats.at(i));
  for (const int64_t shift : {1, 8}) {
    const TensorView out = Put(Tensor(DType::kBFloat16, {21}), shift);
    Convert(stream(), Put(floats, 9 - shift), out);
    EXPECT_EQ(Get(out, want).bytes(), want.bytes()) << "shift " << shift;
  }
}

}  // namespace
}  // namespace moed::cuda
