// Embed, RmsNorm, RotaryCacheWrite, GatherRows and Combine.
#include <cmath>

#include "tests/kernels/cpu/kernel_test.h"

namespace moed {
namespace {

using RowOpsTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, RowOpsTest, testing::ValuesIn(AllKernelCases()), KernelCaseName);

TEST_P(RowOpsTest, EmbedTakesLiteralAndLastSampledTokens) {
  const Tensor table = Tensor::Random(act(), {11, 5}, 1);
  const Tensor tokens = Tensor::Ints({4}, {3, -1, 10, -3});
  const Tensor last_sampled = Tensor::Ints({3}, {7, 0, 2});
  Tensor out(DType::kFloat32, {4, 5});
  backend_->Embed(*stream_, {tokens, last_sampled, table, out.view()});
  const int64_t want[] = {3, 7, 10, 2};
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(out.at(t * 5 + i), table.at(want[t] * 5 + i));
  }
}

TEST_P(RowOpsTest, RmsNormMatchesItsFormulaForChosenRows) {
  for (const int64_t hidden : {1, 17, 64, 301}) {
    const Tensor x = Tensor::Random(DType::kFloat32, {9, hidden}, 2, 3.0F);
    const Tensor weight = Tensor::Random(DType::kFloat32, {hidden}, 3);
    const Tensor index = Tensor::Ints({3}, {8, 0, 8});
    const float epsilon = 1e-5F;
    Tensor all(act(), {9, hidden});
    Tensor some(act(), {3, hidden});
    backend_->RmsNorm(*stream_, {x, {}, weight, epsilon, all.view()});
    backend_->RmsNorm(*stream_, {x, index, weight, epsilon, some.view()});
    std::vector<double> want;
    std::vector<double> allowed;
    for (int64_t r = 0; r < 9; ++r) {
      double squares = 0;
      for (int64_t i = 0; i < hidden; ++i) squares += std::pow(x.at(r * hidden + i), 2.0);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(hidden) + epsilon);
      for (int64_t i = 0; i < hidden; ++i) {
        want.push_back(x.at(r * hidden + i) * scale * weight.at(i));
        allowed.push_back((2e-6 + StoreEpsilon(act())) * std::abs(want.back()));
      }
    }
    ExpectClose(all.floats(), want, allowed, "hidden " + std::to_string(hidden));
    EXPECT_EQ(some.bytes(0, 1), all.bytes(8, 1));
    EXPECT_EQ(some.bytes(1, 1), all.bytes(0, 1));
    EXPECT_EQ(some.bytes(2, 1), all.bytes(8, 1));
  }
}

TEST_P(RowOpsTest, RmsNormOfZerosAndOfHugeValuesIsFinite) {
  const Tensor x = Tensor::Of(DType::kFloat32, {2, 3}, {0, 0, 0, 1e18F, -1e18F, 1e-40F});
  const Tensor weight = Tensor::Of(DType::kFloat32, {3}, {1, 1, 1});
  Tensor out(act(), {2, 3});
  backend_->RmsNorm(*stream_, {x, {}, weight, 1e-5F, out.view()});
  for (const float value : out.floats()) EXPECT_TRUE(std::isfinite(value)) << value;
  EXPECT_EQ(out.at(0), 0.0F);
  EXPECT_NEAR(out.at(3), std::sqrt(1.5), 0.01);
}

TEST_P(RowOpsTest, RotaryRotatesHalvesAndWritesTheCache) {
  const int64_t head_dim = 6;
  const int64_t block_size = 4;
  const Tensor qkv = Tensor::Random(DType::kFloat32, {2, (4 + 2 * 2) * head_dim}, 4);
  Tensor cos_sin(DType::kFloat32, {10, head_dim});
  for (int64_t p = 0; p < 10; ++p) {
    for (int64_t i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(p) * std::pow(10.0, -static_cast<double>(i));
      cos_sin.set(p * head_dim + i, static_cast<float>(std::cos(angle)));
      cos_sin.set(p * head_dim + 3 + i, static_cast<float>(std::sin(angle)));
    }
  }
  const Tensor positions = Tensor::Ints({2}, {9, 0});
  const Tensor slots = Tensor::Ints({2}, {11, 0});
  Tensor q(DType::kFloat32, {2, 4, head_dim});
  Tensor k_cache(act(), {3, 2, block_size, head_dim});
  Tensor v_cache(act(), {3, 2, block_size, head_dim});
  backend_->RotaryCacheWrite(
      *stream_, {qkv, positions, slots, cos_sin, q.view(), k_cache.view(), v_cache.view()});
  const int64_t token_width = 8 * head_dim;
  const auto rotated = [&](int64_t t, int64_t head, int64_t i) {
    const int64_t at = t * token_width + head * head_dim;
    const int64_t p = positions.int_at(t);
    const double cosine = cos_sin.at(p * head_dim + i % 3);
    const double sine = cos_sin.at(p * head_dim + 3 + i % 3);
    const double low = qkv.at(at + i % 3);
    const double high = qkv.at(at + 3 + i % 3);
    return i < 3 ? low * cosine - high * sine : high * cosine + low * sine;
  };
  for (int64_t t = 0; t < 2; ++t) {
    for (int64_t i = 0; i < 4 * head_dim; ++i) {
      EXPECT_NEAR(q.at(t * 4 * head_dim + i), rotated(t, i / head_dim, i % head_dim), 1e-6);
    }
    for (int64_t h = 0; h < 2; ++h) {
      const int64_t slot = slots.int_at(t);
      const int64_t at = ((slot / block_size * 2 + h) * block_size + slot % block_size) * head_dim;
      for (int64_t i = 0; i < head_dim; ++i) {
        const double want = rotated(t, 4 + h, i);
        EXPECT_NEAR(k_cache.at(at + i), want, 1e-6 + StoreEpsilon(act()) * std::abs(want));
        const float value = qkv.at(t * token_width + (6 + h) * head_dim + i);
        EXPECT_NEAR(v_cache.at(at + i), value, StoreEpsilon(act()) * std::abs(value));
      }
    }
  }
}

TEST_P(RowOpsTest, GatherRowsCopiesRowsOfAnyDtype) {
  const Tensor x = Tensor::Random(act(), {5, 7}, 5);
  const Tensor ids = Tensor::Ints({3, 2}, {1, 2, 3, 4, 5, 6});
  const Tensor index = Tensor::Ints({4}, {2, 2, 0, 1});
  Tensor rows(act(), {4, 7});
  Tensor id_rows(DType::kInt32, {4, 2});
  backend_->GatherRows(*stream_, {x, index, rows.view()});
  backend_->GatherRows(*stream_, {ids, index, id_rows.view()});
  for (int64_t r = 0; r < 4; ++r) {
    EXPECT_EQ(rows.bytes(r, 1), x.bytes(index.int_at(r), 1));
  }
  EXPECT_EQ(id_rows.ints(), (std::vector<int32_t>{5, 6, 5, 6, 1, 2, 3, 4}));
}

TEST_P(RowOpsTest, CombineAddsWeighedContributionsInChoiceOrder) {
  const int64_t hidden = 37;
  Tensor contributions = Tensor::Random(act(), {4, hidden}, 6);
  contributions.set(3 * hidden, NAN);  // of a row that no index names
  const Tensor index = Tensor::Ints({3, 2}, {2, 0, -1, 1, -1, -1});
  const Tensor weights = Tensor::Of(DType::kFloat32, {3, 2}, {0.7F, 0.3F, NAN, 0.25F, 1, 1});
  Tensor residual = Tensor::Random(DType::kFloat32, {3, hidden}, 7);
  const Tensor before = residual;
  backend_->Combine(*stream_, {contributions, index, weights, residual.view()});
  for (int64_t i = 0; i < hidden; ++i) {
    const float first = 0.7F * contributions.at(2 * hidden + i);
    const float second = 0.3F * contributions.at(i);
    EXPECT_EQ(residual.at(i), before.at(i) + (first + second));
    EXPECT_EQ(residual.at(hidden + i),
              before.at(hidden + i) + 0.25F * contributions.at(hidden + i));
    EXPECT_EQ(residual.at(2 * hidden + i), before.at(2 * hidden + i));
  }
}

TEST_P(RowOpsTest, PackTensorConvertsEveryFloatDtype) {
  const std::vector<float> values = {0, -1.5F, 65504, 1e-7F, 3.140625F};
  for (const DType source : {DType::kFloat32, DType::kBFloat16}) {
    const Tensor tensor = Tensor::Of(source, {5}, values);
    auto packed = backend_->PackTensor(tensor, act());
    ASSERT_TRUE(packed.ok()) << packed.status();
    const Tensor want = Tensor::Of(act(), {5}, tensor.floats());
    const std::string bytes(static_cast<const char*>(packed->data()),
                            static_cast<size_t>(packed->bytes()));
    EXPECT_EQ(bytes, want.bytes());
  }
  const uint16_t halves[] = {0x3c00, 0xc000, 0x0001};  // 1, -2, 2^-24
  auto packed =
      backend_->PackTensor(ConstTensorView(halves, DType::kFloat16, {3}), DType::kFloat32);
  ASSERT_TRUE(packed.ok()) << packed.status();
  const float* floats = static_cast<const float*>(packed->data());
  EXPECT_EQ(floats[0], 1.0F);
  EXPECT_EQ(floats[1], -2.0F);
  EXPECT_EQ(floats[2], 0x1p-24F);
  const Tensor ints = Tensor::Ints({2}, {1, 2});
  EXPECT_EQ(backend_->PackTensor(ints, act()).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(RowOpsTest, EmptyInputsAreNoWork) {
  const Tensor none(DType::kFloat32, {0, 8});
  const Tensor none_act(act(), {0, 8});
  const Tensor no_ints = Tensor::Ints({0}, {});
  const Tensor no_pairs(DType::kInt32, {0, 2});
  const Tensor no_weights(DType::kFloat32, {0, 2});
  const Tensor weight = Tensor::Random(DType::kFloat32, {8}, 1);
  const Tensor table = Tensor::Random(act(), {3, 8}, 1);
  Tensor out(DType::kFloat32, {0, 8});
  Tensor out_act(act(), {0, 8});
  backend_->Embed(*stream_, {no_ints, no_ints, table, out.view()});
  backend_->RmsNorm(*stream_, {none, {}, weight, 1e-5F, out_act.view()});
  backend_->GatherRows(*stream_, {table, no_ints, out_act.view()});
  backend_->Combine(*stream_, {none_act, no_pairs, no_weights, out.view()});
}

// A row's result may depend neither on its neighbours nor on the threads.
TEST_P(RowOpsTest, RowsHaveTheSameBitsOnManyThreads) {
  const Tensor x = Tensor::Random(DType::kFloat32, {600, 99}, 8);
  const Tensor weight = Tensor::Random(DType::kFloat32, {99}, 9);
  Tensor want(act(), {600, 99});
  backend_->RmsNorm(*stream_, {x, {}, weight, 1e-5F, want.view()});
  for (const int threads : {2, 4}) {
    auto other = MakeTestBackend(GetParam(), threads);
    Tensor got(act(), {600, 99});
    other->RmsNorm(*stream_, {x, {}, weight, 1e-5F, got.view()});
    EXPECT_EQ(got.bytes(), want.bytes()) << threads << " threads";
  }
}

}  // namespace
}  // namespace moed
