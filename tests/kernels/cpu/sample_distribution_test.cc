// Which tokens the cuts leave, in which order they cut, and how often each is drawn.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "tests/kernels/cpu/sample_harness.h"

namespace moed {
namespace {

class SampleDistributionTest : public KernelTest {
 protected:
  // How often each token comes in `num_draws` draws of one seed at consecutive positions.
  std::vector<int> CountDraws(const std::vector<float>& logits, SamplingRow row, int num_draws) {
    constexpr int kRows = 64;
    std::vector<float> repeated;
    for (int i = 0; i < kRows; ++i) repeated.insert(repeated.end(), logits.begin(), logits.end());
    const auto vocab = static_cast<int64_t>(logits.size());
    const Tensor tensor = Tensor::Of(DType::kFloat32, {kRows, vocab}, repeated);
    std::vector<int> counts(logits.size());
    for (int drawn = 0; drawn < num_draws; drawn += kRows) {
      std::vector<SamplingRow> rows(kRows, row);
      for (int i = 0; i < kRows; ++i) rows[static_cast<size_t>(i)].position = drawn + i;
      for (const int32_t token : SampleRows(*backend_, *stream_, tensor, rows).tokens.ints()) {
        ++counts[static_cast<size_t>(token)];
      }
    }
    return counts;
  }

  std::set<size_t> DrawnTokens(const std::vector<float>& logits, const SamplingRow& row) {
    std::set<size_t> drawn;
    const std::vector<int> counts = CountDraws(logits, row, 640);
    for (size_t id = 0; id < counts.size(); ++id) {
      if (counts[id] > 0) drawn.insert(id);
    }
    return drawn;
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, SampleDistributionTest, testing::ValuesIn(SampleKernelCases()),
                         KernelCaseName);

std::set<size_t> Left(const WantedDistribution& distribution) {
  std::set<size_t> left;
  for (size_t id = 0; id < distribution.probability.size(); ++id) {
    if (distribution.probability[id] > 0) left.insert(id);
  }
  return left;
}

// Log-probabilities as logits.
std::vector<float> LogsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

TEST_P(SampleDistributionTest, DrawsFollowTheAdjustedAndCutDistribution) {
  constexpr uint64_t kSeed = 1234;
  constexpr int kDraws = 12800;
  const std::vector<float> logits = {2.0F, 0.5F, 1.9F, -1.0F, 1.0F, 0.0F, 1.5F, -3.0F};
  std::vector<RowWithLists> requests;
  for (const SamplingRow& row :
       {Row(1), Row(0.5F), Row(2.5F), Row(1, 3), Row(1, 0, 0.8F), Row(1, 0, 1, 0.3F),
        Row(0.7F, 5, 0.9F, 0.1F), Row(1, 100, 0.3F), Row(1, 1)}) {
    requests.push_back({});
    requests.back().row = row;
  }
  for (const float typical_p : {0.1F, 0.25F, 0.5F, 0.8F, 0.95F}) {
    for (const float temperature : {0.5F, 1.0F, 3.0F}) {
      requests.push_back({});
      requests.back().row = Row(temperature);
      requests.back().row.typical_p = typical_p;
    }
  }
  RowWithLists biased;
  biased.row = Row(2);
  biased.logit_bias = {{7, 4.5F}, {0, -1.5F}, {3, 0.25F}};
  requests.push_back(biased);
  RowWithLists penalised;
  penalised.row = Row(0.8F);
  penalised.row.repetition_penalty = 1.7F;
  penalised.row.frequency_penalty = 0.4F;
  penalised.row.presence_penalty = -0.6F;
  penalised.seen = {{0, 0, true}, {2, 2, false}, {3, 1, true}, {6, 3, true}};
  requests.push_back(penalised);
  RowWithLists restricted;
  restricted.row = Row(1.3F);
  restricted.allowed = {6, 1, 3, 4};
  restricted.suppressed = {4, 0};
  requests.push_back(restricted);
  RowWithLists all = penalised;
  all.row.top_k = 6;
  all.row.top_p = 0.95F;
  all.row.min_p = 0.05F;
  all.row.typical_p = 0.9F;
  all.logit_bias = biased.logit_bias;
  all.suppressed = {5};
  requests.push_back(all);

  for (const RowWithLists& request : requests) {
    SamplingRow row = request.Get();
    row.seed = kSeed;
    const WantedDistribution wanted = CutLogits(WantedLogits(logits, row), row);
    ASSERT_GT(wanted.margin, 1e-4) << "not a case to test: " << Describe(row);
    const std::vector<int> counts = CountDraws(logits, row, kDraws);
    ExpectCounts(counts, wanted.probability, Describe(row));
  }
}

// Every neighbouring pair of cuts, in a case where the other order leaves other tokens.
TEST_P(SampleDistributionTest, EachCutWorksOnWhatTheOneBeforeHasLeft) {
  using Order = std::vector<Cut>;
  struct Case {
    std::vector<double> probabilities;
    SamplingRow row;
    Order other;
  };
  std::vector<Case> cases;
  const std::vector<double> falling = {0.4, 0.3, 0.2, 0.1};
  cases.push_back({falling, Row(1, 2, 0.5F), {Cut::kTopP, Cut::kTopK, Cut::kMinP, Cut::kTypical}});
  cases.push_back({{0.5, 0.3, 0.1, 0.1},
                   Row(1, 0, 0.6F, 0.5F),
                   {Cut::kTopK, Cut::kMinP, Cut::kTopP, Cut::kTypical}});
  cases.push_back({{0.4, 0.25, 0.2, 0.05, 0.05, 0.05},
                   Row(1, 0, 1, 0.4F),
                   {Cut::kTopK, Cut::kTopP, Cut::kTypical, Cut::kMinP}});
  cases.back().row.typical_p = 0.5F;
  cases.push_back({{0.4, 0.3, 0.2, 0.1},
                   Row(1, 0, 0.65F),
                   {Cut::kTopK, Cut::kTypical, Cut::kTopP, Cut::kMinP}});
  cases.back().row.typical_p = 0.5F;
  cases.push_back({falling, Row(1, 2), {Cut::kTypical, Cut::kTopK, Cut::kTopP, Cut::kMinP}});
  cases.back().row.typical_p = 0.35F;
  for (const Case& c : cases) {
    const std::vector<float> logits = LogsOf(c.probabilities);
    const std::vector<double> wanted_logits = WantedLogits(logits, c.row);
    const WantedDistribution wanted = CutLogits(wanted_logits, c.row);
    ASSERT_GT(wanted.margin, 1e-3) << Describe(c.row);
    ASSERT_NE(Left(wanted), Left(CutLogits(wanted_logits, c.row, c.other)))
        << "the order makes no difference: " << Describe(c.row);
    EXPECT_EQ(DrawnTokens(logits, c.row), Left(wanted)) << Describe(c.row);
  }
}

TEST_P(SampleDistributionTest, RemovedTokensTakeNoPartInTheCuts) {
  const std::vector<float> logits = LogsOf({0.1, 0.5, 0.25, 0.15});  // then 0.2, gone, 0.5, 0.3
  RowWithLists suppressing;
  suppressing.suppressed = {1};
  RowWithLists allowing;
  allowing.allowed = {3, 0, 2};
  for (RowWithLists& request : std::vector<RowWithLists>{suppressing, allowing}) {
    const auto left = [&](const SamplingRow& row) {
      request.row = row;
      return DrawnTokens(logits, request.Get());
    };
    EXPECT_EQ(left(Row(1)), (std::set<size_t>{0, 2, 3}));
    EXPECT_EQ(left(Row(1, 2)), (std::set<size_t>{2, 3}));
    EXPECT_EQ(left(Row(1, 0, 0.55F)), (std::set<size_t>{2, 3}));
    EXPECT_EQ(left(Row(1, 0, 1, 0.55F)), (std::set<size_t>{2, 3}));
    // Entropy 1.03; surprises 1.61, 0.69 and 1.20.
    SamplingRow typical = Row(1);
    typical.typical_p = 0.25F;
    EXPECT_EQ(left(typical), (std::set<size_t>{3}));
  }
}

TEST_P(SampleDistributionTest, TopKTakesTheLowerIdsOfEqualTokens) {
  const std::vector<float> logits = {1, 3, 1, 3, 1, 1};
  EXPECT_EQ(DrawnTokens(logits, Row(1, 1)), (std::set<size_t>{1}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 2)), (std::set<size_t>{1, 3}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 4)), (std::set<size_t>{0, 1, 2, 3}));
  for (const int32_t all : {0, 6, 7, std::numeric_limits<int32_t>::max()}) {
    EXPECT_EQ(DrawnTokens(logits, Row(1, all)), (std::set<size_t>{0, 1, 2, 3, 4, 5}));
  }
}

TEST_P(SampleDistributionTest, TopPTakesTheTokenThatReachesIt) {
  const std::vector<float> logits = LogsOf({0.125, 0.25, 0.125, 0.5});
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 1e-6F)), (std::set<size_t>{3}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 0.49F)), (std::set<size_t>{3}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 0.51F)), (std::set<size_t>{1, 3}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 0.74F)), (std::set<size_t>{1, 3}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 0.76F)), (std::set<size_t>{0, 1, 3}));  // of two alike
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 0.88F)), (std::set<size_t>{0, 1, 2, 3}));
}

TEST_P(SampleDistributionTest, MinPIsAShareOfTheLargestProbability) {
  const std::vector<float> logits = LogsOf({0.125, 0.25, 0.125, 0.5});
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 1, 0.24F)), (std::set<size_t>{0, 1, 2, 3}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 1, 0.26F)), (std::set<size_t>{1, 3}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 1, 0.49F)), (std::set<size_t>{1, 3}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 1, 0.51F)), (std::set<size_t>{3}));
  EXPECT_EQ(DrawnTokens({2, 3, 2, 3}, Row(1, 0, 1, 1)), (std::set<size_t>{1, 3}));
}

// The temperature comes before the cuts: top_p of the flattened distribution is wider.
TEST_P(SampleDistributionTest, TheTemperatureComesBeforeTheCuts) {
  const std::vector<float> logits = LogsOf({0.6, 0.2, 0.1, 0.1});
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 0.55F)), (std::set<size_t>{0}));
  EXPECT_EQ(DrawnTokens(logits, Row(2, 0, 0.55F)), (std::set<size_t>{0, 1}));
  EXPECT_EQ(DrawnTokens(logits, Row(1, 0, 1, 0.4F)), (std::set<size_t>{0}));
  EXPECT_EQ(DrawnTokens(logits, Row(2, 0, 1, 0.4F)), (std::set<size_t>{0, 1, 2, 3}));
}

// Entropy of {1/2, 1/4, 1/8, 1/8}: 7/4 bits; surprises 1, 2, 3, 3 bits. The nearest is the second.
TEST_P(SampleDistributionTest, TypicalTokensAreTakenByTheDistanceOfTheirSurpriseFromTheEntropy) {
  const std::vector<float> logits = LogsOf({0.5, 0.25, 0.125, 0.125});
  const auto left = [&](float typical_p) {
    SamplingRow row = Row(1);
    row.typical_p = typical_p;
    return DrawnTokens(logits, row);
  };
  EXPECT_EQ(left(1e-6F), (std::set<size_t>{1}));
  EXPECT_EQ(left(0.24F), (std::set<size_t>{1}));
  EXPECT_EQ(left(0.26F), (std::set<size_t>{0, 1}));
  EXPECT_EQ(left(0.74F), (std::set<size_t>{0, 1}));
  EXPECT_EQ(left(0.76F), (std::set<size_t>{0, 1, 2}));
  EXPECT_EQ(left(0.88F), (std::set<size_t>{0, 1, 2, 3}));
  EXPECT_EQ(left(1.0F), (std::set<size_t>{0, 1, 2, 3}));
}

TEST_P(SampleDistributionTest, OfEquallyTypicalTokensTheLowerIdsAreTaken) {
  SamplingRow row = Row(1);
  row.typical_p = 0.3F;
  EXPECT_EQ(DrawnTokens({1, 1, 1, 1, 1, 1}, row), (std::set<size_t>{0, 1}));
  // Equal ones above the mean surprise, between others: the likeliest token is the least typical.
  const std::vector<float> logits = LogsOf({0.02, 0.12, 0.02, 0.12, 0.5, 0.12, 0.04, 0.06});
  row.typical_p = 0.2F;
  EXPECT_EQ(DrawnTokens(logits, row), (std::set<size_t>{1, 3}));
}

// All parameters at random against the plain loops; logits with many ties.
TEST_P(SampleDistributionTest, TokensAreThoseOfThePlainLoopsOverRandomRows) {
  constexpr uint32_t kSeed = 77;
  std::mt19937 engine(kSeed);
  const auto below = [&](uint32_t bound) { return static_cast<int32_t>(engine() % bound); };
  const auto one_of = [&](const std::vector<float>& values) {
    return values[engine() % values.size()];
  };
  int compared = 0;
  constexpr int kCases = 1200;
  for (int i = 0; i < kCases; ++i) {
    const int32_t vocab = std::vector<int32_t>{1, 2, 7, 33, 300, 1000}[engine() % 6];
    const float step = one_of({0.0F, 0.0625F, 0.5F});
    std::vector<float> logits;
    std::normal_distribution<float> normal(0, one_of({0.2F, 2.0F, 5.0F}));
    for (int32_t id = 0; id < vocab; ++id) {
      const float logit = normal(engine);
      logits.push_back(step == 0 ? logit : std::round(logit / step) * step);
      if (below(40) == 0) logits.back() = one_of({-INFINITY, NAN, -1e30F});
    }
    RowWithLists request;
    request.row = Row(one_of({0.0F, 0.5F, 1.0F, 2.0F}), 0, one_of({1.0F, 1.0F, 0.3F, 0.93F}),
                      one_of({0.0F, 0.0F, 0.05F, 0.4F}));
    request.row.top_k = std::vector<int32_t>{0, 0, 0, 1, 20, 500}[engine() % 6];
    request.row.typical_p = one_of({1.0F, 0.1F, 0.45F, 0.9F, 0.99F});
    request.row.seed = (uint64_t{engine()} << 32) | engine();
    request.row.position = below(100000);
    request.row.choice_index = engine() % 4;
    request.row.repetition_penalty = one_of({1.0F, 0.5F, 1.3F, 2.0F});
    request.row.frequency_penalty = one_of({0.0F, 0.0F, 0.5F, -0.25F});
    request.row.presence_penalty = one_of({0.0F, 0.0F, 1.5F, -1.0F});
    for (int32_t id = 0; id < vocab; ++id) {
      if (below(4) == 0) request.seen.push_back({id, below(4), below(2) == 0});
      if (below(20) == 0) request.logit_bias.push_back({id, one_of({-100, -1.5F, 1, 2.25F})});
      if (i % 3 == 0 && below(3) == 0) request.allowed.push_back(id);
      if (i % 5 != 0 || below(3) != 0) continue;
      request.suppressed.insert(request.suppressed.end(), static_cast<size_t>(1 + below(2)), id);
    }
    std::shuffle(request.suppressed.begin(), request.suppressed.end(), engine);
    std::shuffle(request.seen.begin(), request.seen.end(), engine);
    std::shuffle(request.allowed.begin(), request.allowed.end(), engine);
    const SamplingRow row = request.Get();
    const WantedToken wanted = TokenOf(logits, row);
    if (wanted.margin < 3e-5) continue;  // float32 sums may fall on either side
    ++compared;
    ASSERT_EQ(SampleOne(*backend_, *stream_, logits, row), wanted.id)
        << "case " << i << " of seed " << kSeed << ", vocabulary " << vocab << ", margin "
        << wanted.margin << ": " << Describe(row);
  }
  EXPECT_GT(compared, kCases * 8 / 10);
}

}  // namespace
}  // namespace moed
