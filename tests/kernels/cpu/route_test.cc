#include <algorithm>
#include <array>
#include <cmath>

#include "tests/kernels/cpu/kernel_test.h"

namespace moed {
namespace {

using RouteTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, RouteTest, testing::ValuesIn(AllKernelCases()), KernelCaseName);

struct Routing {
  Tensor ids;
  Tensor weights;
};

Routing RouteRows(Backend& backend, Stream& stream, const ConstTensorView& x, const Tensor& weight,
                  int64_t top_k, const ConstTensorView& num_choices = {}) {
  const auto size = static_cast<size_t>(x.dim(0) * top_k);
  Routing routing{Tensor::Ints({x.dim(0), top_k}, std::vector<int32_t>(size, -7)),
                  Tensor::Of(DType::kFloat32, {x.dim(0), top_k}, std::vector<float>(size, -7.0F))};
  RouteArgs args;
  args.x = x;
  args.weight = weight;
  args.num_choices = num_choices;
  args.topk_ids = routing.ids.view();
  args.topk_weights = routing.weights.view();
  backend.Route(stream, args);
  return routing;
}

// Plain loops in double; the k of row t is k_of_row[t].
void ExpectTopKThenSoftmax(const Tensor& x, const Tensor& weight, const Routing& got,
                           const std::vector<int64_t>& k_of_row) {
  const int64_t hidden = x.dim(1);
  const int64_t num_experts = weight.dim(0);
  const int64_t top_k = got.ids.dim(1);
  for (int64_t t = 0; t < x.dim(0); ++t) {
    std::vector<double> logits;
    for (int64_t e = 0; e < num_experts; ++e) {
      double sum = 0;
      for (int64_t i = 0; i < hidden; ++i) {
        sum += static_cast<double>(x.at(t * hidden + i)) * weight.at(e * hidden + i);
      }
      logits.push_back(sum);
    }
    const int64_t k = k_of_row[static_cast<size_t>(t)];
    std::vector<bool> taken(static_cast<size_t>(num_experts));
    std::vector<size_t> wanted;
    double total = 0;
    for (int64_t c = 0; c < k; ++c) {
      size_t best = taken.size();
      for (size_t e = 0; e < taken.size(); ++e) {
        if (!taken[e] && (best == taken.size() || logits[e] > logits[best])) best = e;
      }
      taken[best] = true;
      wanted.push_back(best);
      total += std::exp(logits[best] - logits[wanted[0]]);
    }
    for (int64_t c = 0; c < top_k; ++c) {
      const int32_t id = got.ids.int_at(t * top_k + c);
      const float weight_got = got.weights.at(t * top_k + c);
      if (c >= k) {
        ASSERT_EQ(id, -1) << "row " << t << " of " << k << " choices, choice " << c;
        ASSERT_EQ(weight_got, 0.0F) << "row " << t << " of " << k << " choices, choice " << c;
        continue;
      }
      const size_t best = wanted[static_cast<size_t>(c)];
      ASSERT_EQ(id, static_cast<int32_t>(best))
          << "row " << t << " of " << k << " choices, choice " << c;
      ASSERT_NEAR(weight_got, std::exp(logits[best] - logits[wanted[0]]) / total, 2e-6)
          << "row " << t << " of " << k << " choices, choice " << c;
    }
  }
}

TEST_P(RouteTest, MatchesTopKThenSoftmaxInDouble) {
  for (const auto& [num_experts, top_k, hidden] :
       std::vector<std::array<int64_t, 3>>{{8, 2, 64}, {6, 3, 72}, {1, 1, 5}, {16, 4, 33}}) {
    const Tensor x = Tensor::Random(act(), {50, hidden}, 1);
    const Tensor weight = Tensor::Random(DType::kFloat32, {num_experts, hidden}, 2, 0.2F);
    const Routing got = RouteRows(*backend_, *stream_, x, weight, top_k);
    ExpectTopKThenSoftmax(x, weight, got, std::vector<int64_t>(50, top_k));
  }
}

// Every expert has a twin next to it, so every logit is there twice.
TEST_P(RouteTest, MixedNumbersOfChoicesMatchTopKThenSoftmaxInDouble) {
  for (const auto& [num_pairs, top_k, hidden] :
       std::vector<std::array<int64_t, 3>>{{1, 1, 7}, {1, 2, 19}, {3, 5, 72}, {8, 16, 33}}) {
    const int64_t num_rows = 61;
    const Tensor x = Tensor::Random(act(), {num_rows, hidden}, 11);
    Tensor weight = Tensor::Random(DType::kFloat32, {2 * num_pairs, hidden}, 12, 0.2F);
    for (int64_t e = 1; e < 2 * num_pairs; e += 2) {
      for (int64_t i = 0; i < hidden; ++i) {
        weight.set(e * hidden + i, weight.at((e - 1) * hidden + i));
      }
    }
    std::vector<int32_t> num_choices;
    for (int64_t t = 0; t < num_rows; ++t) {
      num_choices.push_back(static_cast<int32_t>(t * 7 % top_k) + 1);
    }
    const Routing got =
        RouteRows(*backend_, *stream_, x, weight, top_k, Tensor::Ints({num_rows}, num_choices));
    ExpectTopKThenSoftmax(x, weight, got, {num_choices.begin(), num_choices.end()});
  }
}

TEST_P(RouteTest, NoRowsIsNoWork) {
  const Tensor x(act(), {0, 8});
  const Tensor weight = Tensor::Random(DType::kFloat32, {3, 8}, 1);
  RouteRows(*backend_, *stream_, x, weight, 2);
  RouteRows(*backend_, *stream_, x, weight, 2, Tensor::Ints({0}, {}));
}

TEST_P(RouteTest, TiesGoToTheLowerId) {
  const Tensor x = Tensor::Random(act(), {20, 45}, 3);
  const Tensor row = Tensor::Random(DType::kFloat32, {1, 45}, 4);
  std::vector<float> same;
  for (int e = 0; e < 5; ++e) {
    const std::vector<float> values = row.floats();
    same.insert(same.end(), values.begin(), values.end());
  }
  const Tensor weight = Tensor::Of(DType::kFloat32, {5, 45}, same);
  const Routing got = RouteRows(*backend_, *stream_, x, weight, 3);
  for (int64_t t = 0; t < 20; ++t) {
    for (int32_t c = 0; c < 3; ++c) {
      ASSERT_EQ(got.ids.int_at(t * 3 + c), c);
      ASSERT_NEAR(got.weights.at(t * 3 + c), 1.0 / 3, 1e-6);
    }
  }
}

TEST_P(RouteTest, WeightsSumToOneForExtremeLogits) {
  const Tensor x = Tensor::Of(act(), {4, 1}, {1e30F, -1e30F, INFINITY, NAN});
  const Tensor weight = Tensor::Of(DType::kFloat32, {3, 1}, {1e5F, -2e5F, 3});
  const Routing got = RouteRows(*backend_, *stream_, x, weight, 2);
  for (int64_t t = 0; t < 4; ++t) {
    EXPECT_FLOAT_EQ(got.weights.at(2 * t) + got.weights.at(2 * t + 1), 1.0F) << "token " << t;
    for (int64_t c = 0; c < 2; ++c) {
      EXPECT_GE(got.ids.int_at(2 * t + c), 0);
      EXPECT_LT(got.ids.int_at(2 * t + c), 3);
    }
    EXPECT_NE(got.ids.int_at(2 * t), got.ids.int_at(2 * t + 1));
  }
  EXPECT_EQ(got.ids.int_at(6), 0);  // NaN counts as -infinity: all alike
  EXPECT_EQ(got.ids.int_at(7), 1);
}

TEST_P(RouteTest, RowsHaveTheSameBitsInAnyBatchAndThreadCount) {
  const Tensor x = Tensor::Random(act(), {600, 77}, 5);
  const Tensor weight = Tensor::Random(DType::kFloat32, {8, 77}, 6);
  const Routing all = RouteRows(*backend_, *stream_, x, weight, 2);
  const ConstTensorView view = x;
  for (const int64_t begin : {0, 5, 599}) {
    const Routing one = RouteRows(*backend_, *stream_, view.Rows(begin, 1), weight, 2);
    EXPECT_EQ(one.weights.bytes(), all.weights.bytes(begin, 1));
  }
  for (const int threads : {2, 4}) {
    auto other = MakeTestBackend(GetParam(), threads);
    const Routing got = RouteRows(*other, *stream_, x, weight, 2);
    EXPECT_EQ(got.ids.bytes(), all.ids.bytes());
    EXPECT_EQ(got.weights.bytes(), all.weights.bytes());
  }
}

TEST_P(RouteTest, MixedNumbersOfChoicesAreThoseOfEachNumberAlone) {
  const int64_t num_rows = 203;
  const int64_t top_k = 4;
  const Tensor x = Tensor::Random(act(), {num_rows, 77}, 7);
  const Tensor weight = Tensor::Random(DType::kFloat32, {9, 77}, 8);
  std::vector<int32_t> num_choices;
  for (int64_t t = 0; t < num_rows; ++t) num_choices.push_back(static_cast<int32_t>(t * 5 % 4) + 1);
  const Tensor choices = Tensor::Ints({num_rows}, num_choices);
  const Routing mixed = RouteRows(*backend_, *stream_, x, weight, top_k, choices);
  for (int64_t k = 1; k <= top_k; ++k) {
    const Routing alone = RouteRows(*backend_, *stream_, x, weight, k);
    for (int64_t t = 0; t < num_rows; ++t) {
      if (num_choices[static_cast<size_t>(t)] != k) continue;
      const std::string ids = mixed.ids.bytes(t, 1);
      const std::string weights = mixed.weights.bytes(t, 1);
      const auto width = static_cast<size_t>(k) * 4;
      ASSERT_EQ(ids.substr(0, width), alone.ids.bytes(t, 1)) << "row " << t << " k " << k;
      ASSERT_EQ(weights.substr(0, width), alone.weights.bytes(t, 1)) << "row " << t << " k " << k;
      for (int64_t c = k; c < top_k; ++c) {
        ASSERT_EQ(mixed.ids.int_at(t * top_k + c), -1);
        ASSERT_EQ(mixed.weights.at(t * top_k + c), 0.0F);
      }
    }
  }
  auto threads = MakeTestBackend(GetParam(), 4);
  const Routing other = RouteRows(*threads, *stream_, x, weight, top_k, choices);
  EXPECT_EQ(other.ids.bytes(), mixed.ids.bytes());
  EXPECT_EQ(other.weights.bytes(), mixed.weights.bytes());
}

TEST(RouteDeathTest, ANumberOfChoicesOutOfRangeIsCaught) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto backend = MakeTestBackend({Kernels::kBaseline, DType::kFloat32});
  const auto stream = backend->CreateStream();
  const Tensor x = Tensor::Random(DType::kFloat32, {1, 4}, 1);
  const Tensor weight = Tensor::Random(DType::kFloat32, {3, 4}, 1);
  for (const int32_t k : {0, 3}) {
    EXPECT_DEATH(RouteRows(*backend, *stream, x, weight, 2, Tensor::Ints({1}, {k})),
                 "a row's k is out of range");
  }
}

}  // namespace
}  // namespace moed
