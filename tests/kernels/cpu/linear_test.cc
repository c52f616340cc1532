#include <cmath>

#include "tests/kernels/cpu/kernel_test.h"

namespace moed {
namespace {

using LinearTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, LinearTest, testing::ValuesIn(AllKernelCases()), KernelCaseName);

// Relative to the sum of the terms' magnitudes: what float32 summation of a few hundred terms may
// lose in any order.
constexpr double kSumEpsilon = 2e-6;

struct Problem {
  Tensor x;
  Tensor w;
  std::unique_ptr<LinearWeight> weight;
};

Problem MakeProblem(Backend& backend, int64_t rows, int64_t out, int64_t in, uint32_t seed = 1) {
  Problem problem{Tensor::Random(backend.activation_dtype(), {rows, in}, seed),
                  Tensor::Random(backend.activation_dtype(), {out, in}, seed + 1), nullptr};
  auto packed = backend.PackLinear({problem.w});
  EXPECT_TRUE(packed.ok()) << packed.status();
  problem.weight = *std::move(packed);
  return problem;
}

// x W^T in double and the magnitudes of the sums.
void Exact(const Problem& problem, std::vector<double>* want, std::vector<double>* magnitude) {
  const int64_t in = problem.x.dim(1);
  const std::vector<float> x = problem.x.floats();
  const std::vector<float> w = problem.w.floats();
  for (int64_t r = 0; r < problem.x.dim(0); ++r) {
    for (int64_t n = 0; n < problem.w.dim(0); ++n) {
      double sum = 0;
      double total = 0;
      for (int64_t k = 0; k < in; ++k) {
        const double term = static_cast<double>(x[static_cast<size_t>(r * in + k)]) *
                            w[static_cast<size_t>(n * in + k)];
        sum += term;
        total += std::abs(term);
      }
      want->push_back(sum);
      magnitude->push_back(total);
    }
  }
}

TEST_P(LinearTest, MatchesDoubleProductsForOddSizes) {
  for (const int64_t rows : {0, 1, 2, 6, 7, 8, 9, 13, 33}) {
    for (const int64_t out : {1, 17, 33, 64, 130}) {
      for (const int64_t in : {1, 2, 31, 64, 257}) {
        const Problem problem = MakeProblem(*backend_, rows, out, in);
        std::vector<double> want;
        std::vector<double> allowed;
        Exact(problem, &want, &allowed);
        for (const DType out_dtype : {DType::kFloat32, act()}) {
          Tensor result(out_dtype, {rows, out});
          backend_->Linear(*stream_, {problem.x, problem.weight.get(), false, result.view()});
          std::vector<double> bounds = allowed;
          for (size_t i = 0; i < bounds.size(); ++i) {
            bounds[i] = kSumEpsilon * allowed[i] + StoreEpsilon(out_dtype) * std::abs(want[i]);
          }
          ExpectClose(result.floats(), want, bounds,
                      testing::PrintToString(std::vector<int64_t>{rows, out, in}));
        }
      }
    }
  }
}

TEST_P(LinearTest, AccumulatesOntoTheOutput) {
  const Problem problem = MakeProblem(*backend_, 9, 70, 65);
  Tensor plain(DType::kFloat32, {9, 70});
  backend_->Linear(*stream_, {problem.x, problem.weight.get(), false, plain.view()});
  Tensor sums = Tensor::Random(DType::kFloat32, {9, 70}, 5);
  const Tensor before = sums;
  backend_->Linear(*stream_, {problem.x, problem.weight.get(), true, sums.view()});
  for (int64_t i = 0; i < sums.size(); ++i) {
    ASSERT_EQ(sums.at(i), before.at(i) + plain.at(i)) << "element " << i;
  }
}

TEST_P(LinearTest, StackedPartsOfAnyFloatDtypeEqualOneMatrix) {
  const Problem problem = MakeProblem(*backend_, 3, 50, 40);
  const ConstTensorView whole = problem.w;
  const auto parts =
      backend_->PackLinear({whole.Rows(0, 7), whole.Rows(7, 20), whole.Rows(27, 23)});
  ASSERT_TRUE(parts.ok());
  Tensor one(DType::kFloat32, {3, 50});
  Tensor stacked(DType::kFloat32, {3, 50});
  backend_->Linear(*stream_, {problem.x, problem.weight.get(), false, one.view()});
  backend_->Linear(*stream_, {problem.x, parts->get(), false, stacked.view()});
  EXPECT_EQ(one.bytes(), stacked.bytes());
}

TEST_P(LinearTest, RowsHaveTheSameBitsInAnyBatchOrderAndThreadCount) {
  const int64_t rows = 211;
  const int64_t in = 301;
  const Problem problem = MakeProblem(*backend_, rows, 150, in);
  Tensor all(DType::kFloat32, {rows, 150});
  backend_->Linear(*stream_, {problem.x, problem.weight.get(), false, all.view()});
  const ConstTensorView x = problem.x;
  for (const int64_t count : {1, 2, 5, 6, 7, 31, 100}) {
    for (int64_t begin = 0; begin + count <= rows; begin += 37) {
      Tensor some(DType::kFloat32, {count, 150});
      backend_->Linear(*stream_, {x.Rows(begin, count), problem.weight.get(), false, some.view()});
      ASSERT_EQ(some.bytes(), all.bytes(begin, count)) << count << " rows from " << begin;
    }
  }
  for (const int threads : {2, 4}) {
    auto other = MakeTestBackend(GetParam(), threads);
    Tensor result(DType::kFloat32, {rows, 150});
    other->Linear(*stream_, {problem.x, problem.weight.get(), false, result.view()});
    ASSERT_EQ(result.bytes(), all.bytes()) << threads << " threads";
  }
}

// Many rows cut a long sum into pieces, to read each piece of the weights from cache again.
TEST_P(LinearTest, LongSumsHaveTheSameBitsWhereverTheyAreCut) {
  const int64_t rows = 14;
  const Problem problem = MakeProblem(*backend_, rows, 70, 2113);
  std::vector<double> want;
  std::vector<double> allowed;
  Exact(problem, &want, &allowed);
  for (double& bound : allowed) bound *= 2 * kSumEpsilon;
  Tensor all(DType::kFloat32, {rows, 70});
  backend_->Linear(*stream_, {problem.x, problem.weight.get(), false, all.view()});
  ExpectClose(all.floats(), want, allowed, "2113 terms");
  const ConstTensorView x = problem.x;
  for (int64_t r = 0; r < rows; ++r) {
    Tensor one(DType::kFloat32, {1, 70});
    backend_->Linear(*stream_, {x.Rows(r, 1), problem.weight.get(), false, one.view()});
    ASSERT_EQ(one.bytes(), all.bytes(r, 1)) << "row " << r;
  }
}

TEST_P(LinearTest, ExtremeValuesStayInTheirRow) {
  Problem problem = MakeProblem(*backend_, 8, 40, 33);
  Tensor clean(DType::kFloat32, {8, 40});
  backend_->Linear(*stream_, {problem.x, problem.weight.get(), false, clean.view()});
  problem.x.set(2 * 33 + 5, INFINITY);
  problem.x.set(4 * 33 + 32, NAN);
  problem.x.set(6 * 33, 1e30F);
  Tensor result(DType::kFloat32, {8, 40});
  backend_->Linear(*stream_, {problem.x, problem.weight.get(), false, result.view()});
  for (const int64_t row : {0, 1, 3, 5, 7}) {
    EXPECT_EQ(result.bytes(row, 1), clean.bytes(row, 1)) << "row " << row;
  }
  EXPECT_TRUE(std::isinf(result.at(2 * 40)));
  EXPECT_TRUE(std::isnan(result.at(4 * 40)));
  EXPECT_GT(std::abs(result.at(6 * 40)), 1e28F);
}

TEST_P(LinearTest, AWeightOfAnotherShapeIsRefusedByName) {
  const Tensor narrow = Tensor::Random(act(), {3, 4}, 1);
  const Tensor wide = Tensor::Random(act(), {3, 5}, 1);
  EXPECT_EQ(backend_->PackLinear({narrow, wide}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(backend_->PackLinear({}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace moed
