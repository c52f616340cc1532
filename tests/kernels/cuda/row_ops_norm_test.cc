// RmsNorm and Embed against the CPU's reference.
#include <cmath>

#include "kernels/cuda/row_ops.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/reference_fixture.h"

namespace moed::cuda {
namespace {

class CudaNormTest : public ReferenceActTest {};
INSTANTIATE_TEST_SUITE_P(Act, CudaNormTest, testing::Values(DType::kFloat32, DType::kBFloat16),
                         ActName);

// A row's squares are summed in another order than on the CPU, and a bfloat16 may round the other
// way: 3e-6 relative, and one unit in the last place.
double NormTolerance(DType act) { return 3e-6 + (act == DType::kBFloat16 ? 0x1p-7 : 0); }

TEST_P(CudaNormTest, RmsNormMatchesTheReference) {
  // Below, at and beyond what stays in registers: 1,024 elements one by one, 4,096 by fours.
  for (const int64_t hidden : {1, 4, 17, 64, 301, 1023, 1025, 1300, 4096, 4100}) {
    const Tensor x = Tensor::Random(DType::kFloat32, {4, hidden}, 2, 3.0F);
    const Tensor weight = Tensor::Random(DType::kFloat32, {hidden}, 3);
    Tensor want(act(), {4, hidden});
    cpu(act()).RmsNorm(cpu_stream(), {x, {}, weight, 1e-5F, want.view()});
    const TensorView device_x = Put(x);
    const TensorView device_weight = Put(weight);
    UnderEachBlockOrder([&] {
      const TensorView out = Put(Tensor(act(), {4, hidden}));
      RmsNorm(stream(), {device_x, {}, device_weight, 1e-5F, out});
      ExpectNear(Get(out, want), want, NormTolerance(act()), 0, "hidden " + std::to_string(hidden));
    });
  }
}

TEST_P(CudaNormTest, RmsNormOfChosenRowsHasTheirBits) {
  const int64_t hidden = 132;
  const Tensor x = Tensor::Random(DType::kFloat32, {9, hidden}, 4);
  const TensorView device_x = Put(x);
  const TensorView weight = Put(Tensor::Random(DType::kFloat32, {hidden}, 5));
  const TensorView index = Put(Tensor::Ints({4}, {8, 0, 8, 3}));
  const TensorView all = Put(Tensor(act(), {9, hidden}));
  const TensorView some = Put(Tensor(act(), {4, hidden}));
  const TensorView one = Put(Tensor(act(), {1, hidden}));
  RmsNorm(stream(), {device_x, {}, weight, 1e-5F, all});
  RmsNorm(stream(), {device_x, index, weight, 1e-5F, some});
  RmsNorm(stream(), {device_x.Rows(3, 1), {}, weight, 1e-5F, one});
  const Tensor all_rows = Get(all, Tensor(act(), {9, hidden}));
  const Tensor some_rows = Get(some, Tensor(act(), {4, hidden}));
  EXPECT_EQ(some_rows.bytes(0, 1), all_rows.bytes(8, 1));
  EXPECT_EQ(some_rows.bytes(1, 1), all_rows.bytes(0, 1));
  EXPECT_EQ(some_rows.bytes(2, 1), all_rows.bytes(8, 1));
  EXPECT_EQ(some_rows.bytes(3, 1), all_rows.bytes(3, 1));
  EXPECT_EQ(Get(one, Tensor(act(), {1, hidden})).bytes(), all_rows.bytes(3, 1));
}

TEST_P(CudaNormTest, RmsNormOfAddressesThatAreNotAligned) {
  const int64_t hidden = 8;
  const Tensor x = Tensor::Random(DType::kFloat32, {3, hidden}, 6);
  const Tensor weight = Tensor::Random(DType::kFloat32, {hidden}, 7);
  Tensor want(act(), {3, hidden});
  cpu(act()).RmsNorm(cpu_stream(), {x, {}, weight, 1e-5F, want.view()});
  for (const int shifted : {0, 1, 2}) {
    const TensorView out = Put(Tensor(act(), {3, hidden}), shifted == 2 ? 1 : 0);
    RmsNorm(stream(),
            {Put(x, shifted == 0 ? 1 : 0), {}, Put(weight, shifted == 1 ? 1 : 0), 1e-5F, out});
    ExpectNear(Get(out, want), want, NormTolerance(act()), 0, "shifted " + std::to_string(shifted));
  }
}

TEST_P(CudaNormTest, RmsNormOfZerosAndOfHugeValuesIsFinite) {
  const TensorView x = Put(Tensor::Of(DType::kFloat32, {2, 3}, {0, 0, 0, 1e18F, -1e18F, 1e-40F}));
  const TensorView weight = Put(Tensor::Of(DType::kFloat32, {3}, {1, 1, 1}));
  const TensorView out = Put(Tensor(act(), {2, 3}));
  RmsNorm(stream(), {x, {}, weight, 1e-5F, out});
  const Tensor got = Get(out, Tensor(act(), {2, 3}));
  EXPECT_EQ(got.at(0), 0.0F);
  EXPECT_NEAR(got.at(3), std::sqrt(1.5), 0.01);
  EXPECT_NEAR(got.at(4), -std::sqrt(1.5), 0.01);
  EXPECT_TRUE(std::isfinite(got.at(5)));
}

TEST_P(CudaNormTest, EmbedTakesLiteralAndLastSampledTokens) {
  for (const int64_t hidden : {1, 5, 8, 64, 2056}) {
    const Tensor table = Tensor::Random(act(), {11, hidden}, 1);
    const Tensor tokens = Tensor::Ints({5}, {3, -1, 10, -3, 0});
    const Tensor last_sampled = Tensor::Ints({3}, {7, 0, 2});
    Tensor want(DType::kFloat32, {5, hidden});
    cpu(act()).Embed(cpu_stream(), {tokens, last_sampled, table, want.view()});
    for (const int64_t shift : {0, 1}) {
      const TensorView device_table = Put(table, shift);
      UnderEachBlockOrder([&] {
        const TensorView out = Put(Tensor(DType::kFloat32, {5, hidden}));
        Embed(stream(), {Put(tokens), Put(last_sampled), device_table, out});
        EXPECT_EQ(Get(out, want).bytes(), want.bytes()) << "hidden " << hidden;
      });
    }
  }
}

TEST_P(CudaNormTest, NoRowsLaunchNothing) {
  const TensorView table = Put(Tensor::Random(act(), {3, 8}, 1));
  const TensorView weight = Put(Tensor::Random(DType::kFloat32, {8}, 1));
  const TensorView none = Put(Tensor(DType::kFloat32, {0, 8}));
  const TensorView no_ints = Put(Tensor::Ints({0}, {}));
  Run();
  const auto before = cuda_host::LaunchCounts();
  Embed(stream(), {no_ints, no_ints, table, none});
  RmsNorm(stream(), {none, {}, weight, 1e-5F, Put(Tensor(act(), {0, 8}))});
  RmsNorm(stream(), {Put(Tensor(DType::kFloat32, {2, 8})), no_ints, weight, 1e-5F,
                     Put(Tensor(act(), {0, 8}))});
  Run();
  EXPECT_EQ(cuda_host::LaunchCounts(), before);
}

}  // namespace
}  // namespace moed::cuda
