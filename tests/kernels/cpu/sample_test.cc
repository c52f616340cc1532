#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/kernels/cpu/sample_harness.h"

namespace moed {
namespace {

using SampleTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, SampleTest, testing::ValuesIn(SampleKernelCases()),
                         KernelCaseName);

TEST_P(SampleTest, GreedyTakesTheLargestAndTiesTheLowestId) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {2, 5}, {1, 3, 2, 3, 3, -0.0F, 0, -1, 0, -2});
  const Sampled got = SampleRows(*backend_, *stream_, logits, {Row(0), Row(0)});
  EXPECT_EQ(got.tokens.ints(), (std::vector<int32_t>{1, 0}));
}

TEST_P(SampleTest, TheTokenIsWrittenToItsSlotOnly) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {2, 3}, {0, 5, 0, 0, 0, 5});
  SamplingRow first = Row(0);
  first.slot = 9;
  SamplingRow second = Row(0);
  second.slot = 4;
  const Sampled got = SampleRows(*backend_, *stream_, logits, {first, second});
  for (int64_t slot = 0; slot < 64; ++slot) {
    EXPECT_EQ(got.last_sampled.int_at(slot), slot == 9 ? 1 : slot == 4 ? 2 : -7);
  }
}

TEST_P(SampleTest, LogprobsAreOfTheRawDistribution) {
  const int64_t vocab = 1003;
  const Tensor logits = Tensor::Random(DType::kFloat32, {1, vocab}, 1, 3.0F);
  SamplingRow row = Row(0.3F, 5, 0.5F);
  const std::vector<int32_t> suppressed = {0, 1, 2, 3};  // stay in the raw distribution
  row.suppressed_token_ids = suppressed;
  const Sampled got = SampleRows(*backend_, *stream_, logits, {row});
  double total = 0;
  for (const float logit : logits.floats()) total += std::exp(static_cast<double>(logit));
  std::vector<int32_t> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return logits.at(a) > logits.at(b); });
  EXPECT_NEAR(got.logprobs.at(0), logits.at(got.tokens.int_at(0)) - std::log(total), 2e-6);
  for (int64_t i = 0; i < kMaxLogprobs; ++i) {
    EXPECT_EQ(got.top_ids.int_at(i), order[static_cast<size_t>(i)]);
    EXPECT_NEAR(got.top_logprobs.at(i), logits.at(order[static_cast<size_t>(i)]) - std::log(total),
                2e-6);
  }
}

TEST_P(SampleTest, TopLogprobsBreakTiesByIdAndEndWithTheVocabulary) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {1, 4}, {1, 2, 2, 1});
  const Sampled got = SampleRows(*backend_, *stream_, logits, {Row(0)});
  const std::vector<int32_t> want = {1, 2, 0, 3};
  for (int64_t i = 0; i < kMaxLogprobs; ++i) {
    EXPECT_EQ(got.top_ids.int_at(i), i < 4 ? want[static_cast<size_t>(i)] : -1);
    if (i >= 4) {
      EXPECT_EQ(got.top_logprobs.at(i), -INFINITY);
    }
  }
}

TEST_P(SampleTest, SuppressedTokensAreNeverDrawn) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {1, 4}, {9, 8, 7, 9});
  const std::vector<int32_t> suppressed = {0, 3};
  for (const float temperature : {0.0F, 1.0F, 100.0F}) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      SamplingRow row = Row(temperature);
      row.seed = seed;
      row.suppressed_token_ids = suppressed;
      const int32_t token = SampleRows(*backend_, *stream_, logits, {row}).tokens.int_at(0);
      ASSERT_TRUE(token == 1 || (token == 2 && temperature > 0)) << token;
    }
  }
}

// Where nothing has a chance the lowest id that may be drawn is, and 0 where none may.
TEST_P(SampleTest, WithoutAnyChanceTheLowestAllowedIdIsTaken) {
  const std::vector<int32_t> all = {0, 1, 2};
  const std::vector<int32_t> some = {1, 0};
  const Tensor dead =
      Tensor::Of(DType::kFloat32, {2, 3}, {-INFINITY, NAN, -INFINITY, NAN, NAN, NAN});
  const Tensor live = Tensor::Of(DType::kFloat32, {1, 3}, {1, 2, 3});
  for (const float temperature : {0.0F, 1.0F}) {
    SamplingRow row = Row(temperature);
    EXPECT_EQ(SampleRows(*backend_, *stream_, dead, {row, row}).tokens.ints(),
              (std::vector<int32_t>{0, 0}));
    row.suppressed_token_ids = some;
    EXPECT_EQ(SampleRows(*backend_, *stream_, dead, {row, row}).tokens.ints(),
              (std::vector<int32_t>{2, 2}));
    row.suppressed_token_ids = all;
    EXPECT_EQ(SampleRows(*backend_, *stream_, live, {row}).tokens.int_at(0), 0);
  }
}

TEST_P(SampleTest, NanCountsAsMinusInfinityAndInfinityWins) {
  const Tensor logits =
      Tensor::Of(DType::kFloat32, {2, 4}, {NAN, 1, 2, NAN, 0, INFINITY, NAN, INFINITY});
  for (const float temperature : {0.0F, 0.5F}) {
    const Sampled got =
        SampleRows(*backend_, *stream_, logits, {Row(temperature), Row(temperature)});
    EXPECT_TRUE(got.tokens.int_at(0) == 1 || got.tokens.int_at(0) == 2);
    EXPECT_TRUE(got.tokens.int_at(1) == 1 || got.tokens.int_at(1) == 3);
    EXPECT_NEAR(got.top_logprobs.at(0), -std::log1p(std::exp(-1.0)), 1e-6);
    EXPECT_NEAR(got.logprobs.at(1), std::log(0.5), 1e-6);
  }
}

TEST_P(SampleTest, ExtremeTemperaturesAreHarmless) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {1, 4}, {1e30F, -1e30F, 1e-40F, 2});
  EXPECT_EQ(SampleRows(*backend_, *stream_, logits, {Row(1e-38F)}).tokens.int_at(0), 0);
  EXPECT_EQ(SampleRows(*backend_, *stream_, logits, {Row(1.0F)}).tokens.int_at(0), 0);
  std::vector<int> counts(4);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SamplingRow row = Row(3e38F);
    row.seed = seed;
    ++counts[static_cast<size_t>(SampleRows(*backend_, *stream_, logits, {row}).tokens.int_at(0))];
  }
  for (const int count : counts) EXPECT_GT(count, 0);
}

TEST_P(SampleTest, ExtremeTemperaturesAreHarmlessWithEveryCut) {
  SamplingRow row = Row(1e-38F, 4, 0.9F, 0.1F);
  row.typical_p = 0.5F;
  EXPECT_EQ(SampleOne(*backend_, *stream_, {1e30F, -1e30F, 1e-40F, 2, -INFINITY}, row), 0);
  EXPECT_EQ(SampleOne(*backend_, *stream_, {-3e38F, 3e38F, -INFINITY, NAN, INFINITY}, row), 4);
  row.temperature = 3e38F;
  row.top_k = 0;
  std::vector<int> counts(4);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    row.seed = seed;
    ++counts[static_cast<size_t>(SampleOne(*backend_, *stream_, {3, -INFINITY, 2, 1}, row))];
  }
  // Thirds: two of them reach typical_p.
  EXPECT_EQ(counts[1] + counts[3], 0);
  EXPECT_GT(counts[0], 0);
  EXPECT_GT(counts[2], 0);
}

TEST_P(SampleTest, TheTopIsWrittenOnlyWhereItIsWanted) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {1, 3}, {1, 2, 3});
  Tensor ints = Tensor::Ints({2}, {-7, -7});
  Tensor logprob(DType::kFloat32, {1});
  Tensor top_ids = Tensor::Ints({1, kMaxLogprobs}, std::vector<int32_t>(kMaxLogprobs, -7));
  Tensor top_logprobs =
      Tensor::Of(DType::kFloat32, {1, kMaxLogprobs}, std::vector<float>(kMaxLogprobs, 9));
  const std::vector<SamplingRow> rows = {Row(0)};
  backend_->Sample(*stream_, {logits, rows, ints.view().Rows(0, 1), ints.view().Rows(1, 1),
                              logprob.view(), top_ids.view(), top_logprobs.view(), false});
  EXPECT_EQ(ints.ints(), (std::vector<int32_t>{2, 2}));
  EXPECT_EQ(top_ids.ints(), std::vector<int32_t>(kMaxLogprobs, -7));
  EXPECT_EQ(top_logprobs.floats(), std::vector<float>(kMaxLogprobs, 9));
}

// Independent of the implementation: the inverse of the cumulative sum, in double.
TEST_P(SampleTest, ADrawIsTheInverseOfTheCumulativeSum) {
  const Tensor logits = Tensor::Random(DType::kFloat32, {1, 2000}, 21, 2.0F);
  int compared = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SamplingRow row = Row(1.0F + static_cast<float>(seed % 3), seed % 2 == 0 ? 0 : 300,
                          seed % 5 == 0 ? 0.95F : 1.0F);
    row.seed = seed << 33;
    row.choice_index = static_cast<uint32_t>(seed % 4);
    row.position = static_cast<int64_t>(seed) << 31;
    const WantedToken wanted = TokenOf(logits.floats(), row);
    if (wanted.margin < 1e-6) continue;  // float32 sums may fall on either side
    ++compared;
    ASSERT_EQ(SampleRows(*backend_, *stream_, logits, {row}).tokens.int_at(0), wanted.id)
        << "seed " << seed;
  }
  EXPECT_GT(compared, 50);
}

TEST_P(SampleTest, ADrawDoesNotDependOnTheBatchOrTheThreads) {
  const int64_t vocab = 8000;
  const Tensor logits = Tensor::Random(DType::kFloat32, {12, vocab}, 31, 2.5F);
  std::vector<SamplingRow> rows;
  for (int i = 0; i < 12; ++i) {
    rows.push_back(Row(i % 4 == 0 ? 0.0F : 0.8F, i % 3 == 0 ? 40 : 0, i % 2 == 0 ? 1.0F : 0.9F));
    rows.back().seed = static_cast<uint64_t>(i);
    rows.back().position = 100 + i;
    rows.back().slot = i;
  }
  const Sampled all = SampleRows(*backend_, *stream_, logits, rows);
  const ConstTensorView view = logits;
  for (int64_t i = 0; i < 12; ++i) {
    const Sampled one =
        SampleRows(*backend_, *stream_, view.Rows(i, 1), {rows[static_cast<size_t>(i)]});
    EXPECT_EQ(one.tokens.int_at(0), all.tokens.int_at(i));
    EXPECT_EQ(one.logprobs.bytes(), all.logprobs.bytes(i, 1));
    EXPECT_EQ(one.top_logprobs.bytes(), all.top_logprobs.bytes(i, 1));
  }
  auto other = MakeTestBackend(GetParam(), 4);
  const Sampled threads = SampleRows(*other, *stream_, logits, rows);
  EXPECT_EQ(threads.tokens.bytes(), all.tokens.bytes());
  EXPECT_EQ(threads.logprobs.bytes(), all.logprobs.bytes());
}

TEST_P(SampleTest, NoRowsIsNoWork) {
  const Tensor logits(DType::kFloat32, {0, 100});
  SampleRows(*backend_, *stream_, logits, {});
}

}  // namespace
}  // namespace moed
