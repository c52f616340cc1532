#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

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
                  int64_t top_k) {
  Routing routing{Tensor(DType::kInt32, {x.dim(0), top_k}),
                  Tensor(DType::kFloat32, {x.dim(0), top_k})};
  RouteArgs args;
  args.x = x;
  args.weight = weight;
  args.topk_ids = routing.ids.view();
  args.topk_weights = routing.weights.view();
  backend.Route(stream, args);
  return routing;
}

TEST_P(RouteTest, MatchesTopKThenSoftmaxInDouble) {
  for (const auto& [num_experts, top_k, hidden] :
       std::vector<std::array<int64_t, 3>>{{8, 2, 64}, {6, 3, 72}, {1, 1, 5}, {16, 4, 33}}) {
    const Tensor x = Tensor::Random(act(), {50, hidden}, 1);
    const Tensor weight = Tensor::Random(DType::kFloat32, {num_experts, hidden}, 2, 0.2F);
    const Routing got = RouteRows(*backend_, *stream_, x, weight, top_k);
    for (int64_t t = 0; t < 50; ++t) {
      std::vector<double> logits;
      for (int64_t e = 0; e < num_experts; ++e) {
        double sum = 0;
        for (int64_t i = 0; i < hidden; ++i) {
          sum += static_cast<double>(x.at(t * hidden + i)) * weight.at(e * hidden + i);
        }
        logits.push_back(sum);
      }
      std::vector<int32_t> order(static_cast<size_t>(num_experts));
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
      });
      double total = 0;
      for (int64_t c = 0; c < top_k; ++c) {
        total += std::exp(logits[static_cast<size_t>(order[static_cast<size_t>(c)])] -
                          logits[static_cast<size_t>(order[0])]);
      }
      for (int64_t c = 0; c < top_k; ++c) {
        const int32_t want = order[static_cast<size_t>(c)];
        ASSERT_EQ(got.ids.int_at(t * top_k + c), want) << "token " << t << " choice " << c;
        const double weight_wanted =
            std::exp(logits[static_cast<size_t>(want)] - logits[static_cast<size_t>(order[0])]) /
            total;
        ASSERT_NEAR(got.weights.at(t * top_k + c), weight_wanted, 2e-6);
      }
    }
  }
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

}  // namespace
}  // namespace moed
