#include <cmath>

#include "gmock/gmock.h"
#include "tests/kernels/cpu/kernel_test.h"

namespace moed {
namespace {

using ExpertFfnTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, ExpertFfnTest, testing::ValuesIn(AllKernelCases()),
                         KernelCaseName);

struct Layer {
  std::vector<Tensor> w1, w2, w3;
  std::vector<std::unique_ptr<ExpertWeight>> packed;
  std::vector<const ExpertWeight*> experts;
};

Layer MakeLayer(Backend& backend, int num_experts, int64_t hidden, int64_t ffn) {
  Layer layer;
  const DType act = backend.activation_dtype();
  const float scale = 1.0F / std::sqrt(static_cast<float>(hidden));
  for (int e = 0; e < num_experts; ++e) {
    const auto seed = static_cast<uint32_t>(100 + 3 * e);
    layer.w1.push_back(Tensor::Random(act, {ffn, hidden}, seed, scale));
    layer.w2.push_back(Tensor::Random(act, {hidden, ffn}, seed + 1, scale));
    layer.w3.push_back(Tensor::Random(act, {ffn, hidden}, seed + 2, scale));
    auto packed = backend.PackExpert(layer.w1.back(), layer.w2.back(), layer.w3.back());
    EXPECT_TRUE(packed.ok()) << packed.status();
    layer.packed.push_back(*std::move(packed));
    layer.experts.push_back(layer.packed.back().get());
  }
  return layer;
}

struct Term {
  double value = 0;
  double magnitude = 0;  // the sum of the terms' magnitudes
};

Term Dot(const Tensor& a, int64_t a_row, const std::vector<Term>& b) {
  Term sum;
  for (size_t i = 0; i < b.size(); ++i) {
    const double factor = a.at(a_row * a.dim(1) + static_cast<int64_t>(i));
    sum.value += factor * b[i].value;
    sum.magnitude += std::abs(factor) * b[i].magnitude;
  }
  return sum;
}

std::vector<Term> ExactRow(const Layer& layer, size_t e, const Tensor& x, int64_t row) {
  std::vector<Term> in;
  for (int64_t i = 0; i < x.dim(1); ++i) {
    const double value = x.at(row * x.dim(1) + i);
    in.push_back({value, std::abs(value)});
  }
  std::vector<Term> inner;
  for (int64_t f = 0; f < layer.w1[e].dim(0); ++f) {
    const Term gate = Dot(layer.w1[e], f, in);
    const Term up = Dot(layer.w3[e], f, in);
    inner.push_back(
        {gate.value / (1 + std::exp(-gate.value)) * up.value, gate.magnitude * up.magnitude});
  }
  std::vector<Term> out;
  for (int64_t i = 0; i < x.dim(1); ++i) out.push_back(Dot(layer.w2[e], i, inner));
  return out;
}

// Of a sum's magnitude: three float32 sums; with bfloat16 also the inner activation's rounding.
double Tolerance(DType act) { return act == DType::kFloat32 ? 3e-6 : 3e-6 + 0x1p-8; }

struct Plan {
  std::vector<int32_t> offsets, rows, outs;
};

void RunAndCompare(Backend& backend, Stream& stream, int64_t hidden, int64_t ffn, int64_t num_rows,
                   const Plan& plan) {
  const DType act = backend.activation_dtype();
  const auto num_experts = static_cast<int>(plan.offsets.size()) - 1;
  const Layer layer = MakeLayer(backend, num_experts, hidden, ffn);
  const Tensor x = Tensor::Random(act, {num_rows, hidden}, 7);
  const auto pairs = static_cast<int64_t>(plan.rows.size());
  Tensor out = Tensor::Of(act, {pairs + 1, hidden},
                          std::vector<float>(static_cast<size_t>((pairs + 1) * hidden), 42.0F));
  const Tensor offsets = Tensor::Ints({num_experts + 1}, plan.offsets);
  const Tensor rows = Tensor::Ints({pairs}, plan.rows);
  const Tensor outs = Tensor::Ints({pairs}, plan.outs);
  backend.ExpertFfn(stream, {x, layer.experts, offsets, rows, outs, out.view()});
  std::vector<bool> written(static_cast<size_t>(pairs + 1), false);
  for (int e = 0; e < num_experts; ++e) {
    for (int32_t i = plan.offsets[static_cast<size_t>(e)];
         i < plan.offsets[static_cast<size_t>(e) + 1]; ++i) {
      const int32_t target = plan.outs[static_cast<size_t>(i)];
      written[static_cast<size_t>(target)] = true;
      std::vector<double> want;
      std::vector<double> allowed;
      std::vector<float> got;
      for (const Term& term :
           ExactRow(layer, static_cast<size_t>(e), x, plan.rows[static_cast<size_t>(i)])) {
        got.push_back(out.at(target * hidden + static_cast<int64_t>(got.size())));
        want.push_back(term.value);
        allowed.push_back(Tolerance(act) * term.magnitude +
                          StoreEpsilon(act) * std::abs(term.value));
      }
      ExpectClose(got, want, allowed,
                  "pair " + std::to_string(i) + " of expert " + std::to_string(e));
    }
  }
  for (int64_t r = 0; r <= pairs; ++r) {
    if (written[static_cast<size_t>(r)]) continue;
    for (int64_t h = 0; h < hidden; ++h) {
      ASSERT_EQ(out.at(r * hidden + h), 42.0F) << "row " << r << " was named by no index";
    }
  }
}

TEST_P(ExpertFfnTest, MatchesDoubleLoopsWithAnExpertWithoutRows) {
  RunAndCompare(*backend_, *stream_, 72, 40, 5,
                {{0, 3, 3, 7}, {0, 2, 4, 0, 1, 3, 4}, {6, 1, 4, 0, 2, 3, 5}});
}

TEST_P(ExpertFfnTest, MatchesDoubleLoopsForOddSizes) {
  for (const int64_t hidden : {1, 33}) {
    for (const int64_t ffn : {1, 7, 65}) {
      RunAndCompare(*backend_, *stream_, hidden, ffn, 3, {{0, 1, 3}, {2, 0, 1}, {0, 1, 2}});
    }
  }
}

TEST_P(ExpertFfnTest, AllRowsMayGoToOneExpert) {
  Plan plan;
  plan.offsets = {0, 0, 40, 40};
  for (int32_t i = 0; i < 40; ++i) {
    plan.rows.push_back(39 - i);
    plan.outs.push_back(i);
  }
  RunAndCompare(*backend_, *stream_, 34, 50, 40, plan);
}

TEST_P(ExpertFfnTest, NoPairsLeavesTheOutput) {
  RunAndCompare(*backend_, *stream_, 16, 8, 0, {{0, 0, 0}, {}, {}});
  RunAndCompare(*backend_, *stream_, 16, 8, 3, {{0, 0}, {}, {}});
}

// More pairs than one pass of the fast backend takes, cut at another place for every subset.
TEST_P(ExpertFfnTest, PairsHaveTheSameBitsInAnyBatchAndThreadCount) {
  const int64_t hidden = 40;
  const int num_rows = 600;
  const Layer layer = MakeLayer(*backend_, 3, hidden, 36);
  const Tensor x = Tensor::Random(act(), {num_rows, hidden}, 8);
  const auto run = [&](Backend& backend, const std::vector<int32_t>& chosen) {
    const auto count = static_cast<int32_t>(chosen.size());
    std::vector<int32_t> rows;
    std::vector<int32_t> outs;
    for (int32_t e = 0; e < 3; ++e) {
      for (int32_t i = 0; i < count; ++i) {
        rows.push_back(chosen[static_cast<size_t>(i)]);
        outs.push_back(3 * i + e);
      }
    }
    Tensor out(act(), {3 * count, hidden});
    const Tensor offsets = Tensor::Ints({4}, {0, count, 2 * count, 3 * count});
    const Tensor row_index = Tensor::Ints({3 * count}, rows);
    const Tensor out_index = Tensor::Ints({3 * count}, outs);
    backend.ExpertFfn(*stream_, {x, layer.experts, offsets, row_index, out_index, out.view()});
    return out;
  };
  std::vector<int32_t> everyone;
  for (int32_t i = 0; i < num_rows; ++i) everyone.push_back(i);
  const Tensor all = run(*backend_, everyone);
  for (const std::vector<int32_t>& subset :
       {std::vector<int32_t>{599}, {5, 3}, {100, 0, 7, 599, 300, 8, 9, 10, 11}}) {
    const Tensor some = run(*backend_, subset);
    for (size_t i = 0; i < subset.size(); ++i) {
      ASSERT_EQ(some.bytes(static_cast<int64_t>(3 * i), 3), all.bytes(3 * subset[i], 3))
          << "row " << subset[i] << " among " << subset.size();
    }
  }
  for (const int threads : {2, 4}) {
    auto other = MakeTestBackend(GetParam(), threads);
    ASSERT_EQ(run(*other, everyone).bytes(), all.bytes()) << threads << " threads";
  }
}

TEST_P(ExpertFfnTest, WeightsOfWrongShapesAreRefused) {
  const Tensor up = Tensor::Random(act(), {6, 4}, 1);
  const Tensor down = Tensor::Random(act(), {4, 6}, 1);
  EXPECT_TRUE(backend_->PackExpert(up, down, up).ok());
  const auto refused = backend_->PackExpert(up, up, up);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), testing::HasSubstr("[6, 4]"));
}

}  // namespace
}  // namespace moed
