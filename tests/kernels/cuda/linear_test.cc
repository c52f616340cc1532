#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "gmock/gmock.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/gemm_fixture.h"

namespace moed::cuda {
namespace {

using testing::HasSubstr;

using LinearTest = GemmTest;
INSTANTIATE_TEST_SUITE_P(Gemm, LinearTest,
                         testing::Values(GemmCase{DType::kFloat32, true},
                                         GemmCase{DType::kBFloat16, true}),
                         GemmCaseName);

// Of the product of the two vectors' norms, which bounds what any order of a float32 sum can lose;
// and the rounding of a store in each of the two results.
void ExpectNear(const Tensor& got, const Tensor& want, const Tensor& x, const Tensor& weight,
                DType out_dtype, const std::string& what) {
  const auto norm = [](const Tensor& t, int64_t row) {
    double sum = 0;
    for (int64_t i = 0; i < t.dim(1); ++i) {
      const double value = t.at(row * t.dim(1) + i);
      sum += value * value;
    }
    return std::sqrt(sum);
  };
  std::vector<double> wanted;
  std::vector<double> allowed;
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const double x_norm = norm(x, row);
    for (int64_t n = 0; n < weight.dim(0); ++n) {
      const double value = want.at(row * weight.dim(0) + n);
      wanted.push_back(value);
      allowed.push_back(2e-6 * x_norm * norm(weight, n) +
                        2 * StoreEpsilon(out_dtype) * std::abs(value));
    }
  }
  ExpectClose(got.floats(), wanted, allowed, what);
}

struct Shape {
  int64_t m, n, k;
};

TEST_P(LinearTest, MatchesTheReferenceForOddShapes) {
  UnderEachBlockOrder([&] {
    for (const Shape& s : {Shape{1, 1, 1}, Shape{3, 5, 7}, Shape{2, 16, 64}, Shape{8, 33, 72},
                           Shape{9, 17, 40}, Shape{17, 40, 96}, Shape{33, 20, 130}}) {
      const Tensor x = Tensor::Random(act(), {s.m, s.k}, 1);
      const Tensor weight = Tensor::Random(act(), {s.n, s.k}, 2);
      const auto packed = Pack(kernels(), weight);
      EXPECT_EQ(packed->in_features(), s.k);
      EXPECT_EQ(packed->out_features(), s.n);
      const std::string what =
          "m n k = " + std::to_string(s.m) + " " + std::to_string(s.n) + " " + std::to_string(s.k);
      const Tensor floats = Tensor::Random(DType::kFloat32, {s.m, s.n}, 3);
      for (const bool accumulate : {false, true}) {
        ExpectNear(Linear(kernels(), x, *packed, floats, accumulate),
                   ReferenceLinear(x, weight, floats, accumulate), x, weight, DType::kFloat32,
                   what + (accumulate ? ", added" : ""));
      }
      const Tensor acts = Tensor::Random(act(), {s.m, s.n}, 3);
      ExpectNear(Linear(kernels(), x, *packed, acts), ReferenceLinear(x, weight, acts, false), x,
                 weight, act(), what + ", rounded");
    }
  });
}

TEST_P(LinearTest, MatchesTheReferenceForManyRowsAndWeights) {
  for (const Shape& s : {Shape{40, 136, 200}, Shape{70, 24, 328}, Shape{130, 140, 72}}) {
    const Tensor x = Tensor::Random(act(), {s.m, s.k}, 1);
    const Tensor weight = Tensor::Random(act(), {s.n, s.k}, 2);
    const auto packed = Pack(kernels(), weight);
    const Tensor out = Tensor::Random(DType::kFloat32, {s.m, s.n}, 3);
    ExpectNear(Linear(kernels(), x, *packed, out, true), ReferenceLinear(x, weight, out, true), x,
               weight, DType::kFloat32, "m = " + std::to_string(s.m));
  }
}

TEST_P(LinearTest, RowsHaveTheSameBitsForEveryNumberOfRows) {
  for (const Shape& s : {Shape{140, 24, 200}, Shape{140, 10, 333}}) {
    const Tensor x = Tensor::Random(act(), {s.m, s.k}, 1);
    const auto packed = Pack(kernels(), Tensor::Random(act(), {s.n, s.k}, 2));
    const Tensor all = Linear(kernels(), x, *packed, Tensor(DType::kFloat32, {s.m, s.n}));
    for (int32_t m = 1; m <= 70; ++m) {
      const Tensor some =
          Linear(kernels(), TakeRows(x, Range(m)), *packed, Tensor(DType::kFloat32, {m, s.n}));
      ASSERT_EQ(some.bytes(), all.bytes(0, m)) << m << " rows of k = " << s.k;
    }
  }
}

TEST_P(LinearTest, RowsHaveTheSameBitsInAnyOrder) {
  const int64_t n = 20;
  const Tensor x = Tensor::Random(act(), {90, 136}, 1);
  const auto packed = Pack(kernels(), Tensor::Random(act(), {n, 136}, 2));
  const Tensor all = Linear(kernels(), x, *packed, Tensor(act(), {90, n}));
  std::mt19937 random(5);
  for (const size_t count : {5U, 20U, 50U, 90U}) {
    std::vector<int32_t> rows = Range(90);
    std::shuffle(rows.begin(), rows.end(), random);
    rows.resize(count);
    const Tensor some = Linear(kernels(), TakeRows(x, rows), *packed,
                               Tensor(act(), {static_cast<int64_t>(count), n}));
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(some.bytes(static_cast<int64_t>(i), 1), all.bytes(rows[i], 1))
          << "row " << rows[i] << " as one of " << count;
    }
  }
}

// Slices of K on blocks of their own, or in one: few tiles, with and without room for their sums.
TEST_P(LinearTest, RowsHaveTheSameBitsWhetherSlicesAreSummedApartOrTogether) {
  const int64_t n = 40;
  const int64_t k = 528;
  const Tensor x = Tensor::Random(act(), {50, k}, 1);
  const Tensor weight = Tensor::Random(act(), {n, k}, 2);
  const auto apart = Pack(kernels(), weight);
  const auto together_kernels = MakeKernels(nullptr, true);
  const Tensor out = Tensor::Random(DType::kFloat32, {50, n}, 3);
  cuda_host::ResetLaunchCounts();
  const Tensor want = Linear(kernels(), x, *apart, out, true);
  EXPECT_EQ(cuda_host::LaunchCounts()["AddSlices"], act() == DType::kBFloat16 ? 1 : 0);
  EXPECT_EQ(Linear(*together_kernels, x, *apart, out, true).bytes(), want.bytes());
  EXPECT_EQ(cuda_host::LaunchCounts()["AddSlices"], act() == DType::kBFloat16 ? 1 : 0);
}

TEST_P(LinearTest, InfinitiesAndNansStayInTheirRow) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const int64_t m : {3, 20, 40}) {
    Tensor x = Tensor::Random(act(), {m, 80}, 1);
    const auto packed = Pack(kernels(), Tensor::Random(act(), {6, 80}, 2));
    const Tensor before = Linear(kernels(), x, *packed, Tensor(DType::kFloat32, {m, 6}));
    for (int64_t i = 0; i < 80; ++i) x.set(80 + i, i % 2 == 0 ? infinity : -infinity);
    const Tensor after = Linear(kernels(), x, *packed, Tensor(DType::kFloat32, {m, 6}));
    EXPECT_EQ(after.bytes(0, 1), before.bytes(0, 1));
    EXPECT_EQ(after.bytes(2, m - 2), before.bytes(2, m - 2));
    for (int64_t n = 0; n < 6; ++n) EXPECT_FALSE(std::isfinite(after.at(6 + n)));
  }
}

TEST_P(LinearTest, DoesNothingWithoutRowsOrOutputs) {
  const auto packed = Pack(kernels(), Tensor::Random(act(), {4, 8}, 2));
  EXPECT_EQ(Linear(kernels(), Tensor(act(), {0, 8}), *packed, Tensor(act(), {0, 4})).size(), 0);
  const auto no_outputs = Pack(kernels(), Tensor(act(), {0, 8}));
  EXPECT_EQ(Linear(kernels(), Tensor(act(), {3, 8}), *no_outputs, Tensor(act(), {3, 0})).size(), 0);
}

TEST_P(LinearTest, TheSumOfNoProductsIsZero) {
  const auto packed = Pack(kernels(), Tensor(act(), {4, 0}));
  const Tensor out = Tensor::Of(DType::kFloat32, {1, 4}, {1, 2, 3, 4});
  for (const int64_t m : {1, 40}) {
    const Tensor many = TakeRows(out, std::vector<int32_t>(static_cast<size_t>(m), 0));
    EXPECT_THAT(Linear(kernels(), Tensor(act(), {m, 0}), *packed, many).floats(),
                testing::Each(0.0F));
    EXPECT_EQ(Linear(kernels(), Tensor(act(), {m, 0}), *packed, many, true).bytes(), many.bytes());
  }
}

// Multiples of 1/16 below 2, which every float type has.
Tensor SmallValues(DType dtype, std::vector<int64_t> shape) {
  Tensor tensor(dtype, std::move(shape));
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const uint16_t fraction = static_cast<uint16_t>(i % 16);
    if (dtype == DType::kFloat16) {
      tensor.view().data<Float16>()[i] = {static_cast<uint16_t>(0x3c00 | fraction << 6)};
    } else {
      tensor.set(i, 1.0F + static_cast<float>(fraction) / 16);
    }
  }
  return tensor;
}

TEST_P(LinearTest, PacksStackedPartsOfAnyDtypeFromHostAndDevice) {
  const Tensor x = Tensor::Random(act(), {2, 24}, 1);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    const Tensor first = SmallValues(dtype, {5, 24});
    const Tensor second = SmallValues(dtype, {3, 24});
    const auto expected = reference().PackLinear({first, second});
    ASSERT_TRUE(expected.ok());
    Tensor want(DType::kFloat32, {2, 8});
    reference().Linear(reference_stream(), {.x = x, .weight = expected->get(), .out = want.view()});
    const Buffer on_device = UploadView(second);
    const int64_t weights_before = memory().allocated_bytes(MemoryKind::kWeights);
    const int64_t workspace_before = memory().allocated_bytes(MemoryKind::kWorkspace);
    {
      const auto packed = kernels().PackLinear(stream(), {first, on_device.View(dtype, {3, 24})});
      ASSERT_TRUE(packed.ok()) << packed.status();
      EXPECT_EQ((*packed)->bytes(), 8 * 24 * DTypeBytes(act()));
      EXPECT_EQ(memory().allocated_bytes(MemoryKind::kWeights) - weights_before,
                (*packed)->bytes());
      EXPECT_EQ(memory().allocated_bytes(MemoryKind::kWorkspace), workspace_before);
      const Tensor got = Linear(kernels(), x, **packed, Tensor(DType::kFloat32, {2, 8}));
      for (int64_t i = 0; i < got.size(); ++i) {
        EXPECT_NEAR(got.at(i), want.at(i), 1e-4) << DTypeName(dtype) << " element " << i;
      }
    }
    EXPECT_EQ(memory().allocated_bytes(MemoryKind::kWeights), weights_before);
  }
}

TEST_P(LinearTest, EveryFloat16IsRoundedOnceWhenItIsPacked) {
  Tensor weight(DType::kFloat16, {256, 256});
  for (int i = 0; i < 65536; ++i) {
    weight.view().data<Float16>()[i] = {static_cast<uint16_t>(i)};
  }
  const auto packed = Pack(kernels(), weight);
  Tensor got(DType::kFloat32, {256, 256});
  // A row of the unit matrix takes a column of the weight; the rest of the sum is zero but for
  // products with infinities and NaNs, so those rows are left out.
  Tensor unit(act(), {256, 256});
  for (int64_t i = 0; i < 256; ++i) unit.set(i * 256 + i, 1);
  got = Linear(kernels(), unit, *packed, got);
  for (int64_t n = 0; n < 256; ++n) {
    if ((n & 0x7c) == 0x7c) continue;
    for (int64_t k = 0; k < 256; ++k) {
      const float value = ToFloat(Float16{static_cast<uint16_t>(n * 256 + k)});
      ASSERT_EQ(got.at(k * 256 + n), act() == DType::kFloat32 ? value : ToFloat(ToBFloat16(value)))
          << n * 256 + k;
    }
  }
}

TEST_P(LinearTest, RefusesPartsThatDoNotStack) {
  const auto packed =
      kernels().PackLinear(stream(), {Tensor(act(), {2, 8}), Tensor(act(), {2, 9})});
  EXPECT_EQ(packed.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(LinearTest, PackingReportsThatMemoryIsOut) {
  cuda_host::FailCall("allocate", 1, kCudaErrorMemoryAllocation);
  const auto packed = kernels().PackLinear(stream(), {Tensor(act(), {2, 8})});
  EXPECT_EQ(packed.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(packed.status().message()), HasSubstr("weights"));
}

TEST_P(LinearTest, ALaunchThatFailsIsNotedOnTheStream) {
  const auto packed = Pack(kernels(), Tensor::Random(act(), {4, 8}, 2));
  const Buffer x = UploadView(Tensor(act(), {1, 8}));
  const Buffer out = UploadView(Tensor(act(), {1, 4}));
  cuda_host::FailCall("launch_kernel", 1, 9);
  kernels().Linear(
      stream(),
      {.x = x.View(act(), {1, 8}), .weight = packed.get(), .out = out.View(act(), {1, 4})});
  EXPECT_THAT(std::string(stream().Synchronize().message()), HasSubstr("Linear"));
}

}  // namespace
}  // namespace moed::cuda
