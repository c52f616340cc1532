// What a request does to its logits: bias, penalties, allowed and suppressed tokens.
#include <cmath>
#include <limits>
#include <random>

#include "tests/kernels/cpu/sample_harness.h"

namespace moed {
namespace {

constexpr float kLargest = std::numeric_limits<float>::max();

class SampleAdjustTest : public KernelTest {
 protected:
  int32_t Greedy(const std::vector<float>& logits, RowWithLists request) {
    request.row.temperature = 0;
    return SampleOne(*backend_, *stream_, logits, request.Get());
  }

  // Pins the adjusted logit of token 1 to the bit: token 0 wins a tie, and loses to the next float.
  void ExpectAdjusted(float raw, const RowWithLists& request, float expected) {
    EXPECT_EQ(Greedy({expected, raw}, request), 0)
        << raw << " became more than " << expected << ": " << Describe(request.Get());
    const float below = std::nextafter(expected, -INFINITY);
    EXPECT_EQ(Greedy({below, raw}, request), 1)
        << raw << " became less than " << expected << ": " << Describe(request.Get());
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, SampleAdjustTest, testing::ValuesIn(SampleKernelCases()),
                         KernelCaseName);

const float kLogits[] = {0.0F,   1.0F,    -1.0F, 0.1F,   -7.3F,    12.75F,   -0.003F,
                         1e-30F, -1e-30F, 1e30F, -1e30F, kLargest, -kLargest};

float Rounded(double logit) {
  return static_cast<float>(
      std::clamp(logit, -static_cast<double>(kLargest), static_cast<double>(kLargest)));
}

TEST_P(SampleAdjustTest, ABiasIsAdded) {
  for (const float raw : kLogits) {
    for (const float bias : {0.0F, 0.1F, -0.1F, 5.0F, 100.0F, -100.0F}) {
      RowWithLists request;
      request.logit_bias = {{1, bias}};
      if (raw + bias == -kLargest) continue;  // has no neighbour below to tell it from
      ExpectAdjusted(raw, request, raw + bias);
    }
  }
}

TEST_P(SampleAdjustTest, ARepetitionPenaltyDividesWhatIsPositiveAndMultipliesTheRest) {
  for (const float raw : kLogits) {
    for (const float penalty : {0.01F, 0.5F, 1.0F, 1.1F, 10.0F}) {
      RowWithLists request;
      request.row.repetition_penalty = penalty;
      const double r = penalty;
      const float expected = Rounded(raw > 0 ? raw / r : raw * r);
      if (expected == -kLargest) continue;
      for (const SeenToken& seen : {SeenToken{1, 0, true}, {1, 1, false}, {1, 3, true}}) {
        request.seen = {seen};
        ExpectAdjusted(raw, request, expected);
      }
    }
  }
}

TEST_P(SampleAdjustTest, FrequencyCountsWhatWasDrawnAndPresenceWhetherAnyWas) {
  for (const float raw : {0.0F, 1.0F, -1.0F, 0.1F, -7.3F, 12.75F, 1e30F}) {
    for (const float frequency : {0.0F, 0.3F, -2.0F, 2.0F}) {
      for (const float presence : {0.0F, 0.7F, -2.0F, 2.0F}) {
        for (const int32_t num_drawn : {0, 1, 2, 50, 100000}) {
          RowWithLists request;
          request.row.frequency_penalty = frequency;
          request.row.presence_penalty = presence;
          request.seen = {{1, num_drawn, true}};
          double expected = static_cast<double>(raw) - static_cast<double>(frequency) * num_drawn;
          if (num_drawn > 0) expected -= presence;
          ExpectAdjusted(raw, request, Rounded(expected));
        }
      }
    }
  }
}

TEST_P(SampleAdjustTest, OnlyListedTokensAreTouched) {
  RowWithLists request;
  request.row.repetition_penalty = 4;
  request.row.frequency_penalty = 1;
  request.row.presence_penalty = 1;
  request.seen = {{2, 1, false}, {4, 1, true}};
  request.logit_bias = {{4, -1}, {0, -1}};
  // 3 - 1 = 2; 1.5; 8 / 4 - 2 = 0; 1.75; (9 - 1) / 4 - 2 = 0
  EXPECT_EQ(Greedy({3, 1.5F, 8, 1.75F, 9}, request), 0);
  EXPECT_EQ(Greedy({2, 1.5F, 8, 1.75F, 9}, request), 3);
}

TEST_P(SampleAdjustTest, WithoutAPenaltySeenTokensAreNotRead) {
  RowWithLists request;
  request.seen = {{1, 5, true}};
  EXPECT_EQ(Greedy({1, 2, 0}, request), 1);
}

// Cases where another order of the steps gives another token.
TEST_P(SampleAdjustTest, TheBiasComesBeforeTheRepetitionPenalty) {
  RowWithLists request;
  request.logit_bias = {{0, -2}};
  request.row.repetition_penalty = 2;
  request.seen = {{0, 0, true}};
  // (1 - 2) * 2 = -2; the other way 1 / 2 - 2 = -1.5
  EXPECT_EQ(Greedy({1, -1.75F}, request), 1);
}

TEST_P(SampleAdjustTest, TheRepetitionPenaltyComesBeforeFrequencyAndPresence) {
  RowWithLists request;
  request.row.repetition_penalty = 2;
  request.row.frequency_penalty = 1;
  request.seen = {{0, 1, false}};
  // 2 / 2 - 1 = 0; the other way (2 - 1) / 2 = 0.5
  EXPECT_EQ(Greedy({2, 0.25F}, request), 1);
  request.row.frequency_penalty = 0;
  request.row.presence_penalty = 1;
  EXPECT_EQ(Greedy({2, 0.25F}, request), 1);
}

TEST_P(SampleAdjustTest, ABiasDoesNotBringARemovedTokenBack) {
  RowWithLists request;
  request.logit_bias = {{0, 100}, {1, 100}};
  request.row.presence_penalty = -100;
  request.seen = {{0, 1, false}, {1, 1, false}};
  request.suppressed = {0};
  request.allowed = {3, 0, 2};
  for (const float temperature : {0.0F, 1.0F}) {
    request.row.temperature = temperature;
    EXPECT_EQ(SampleOne(*backend_, *stream_, {5, 5, 4, -90, 6}, request.Get()), 2);
  }
}

TEST_P(SampleAdjustTest, PenaltiesComeBeforeTopK) {
  RowWithLists request;
  request.row = Row(1, 1);
  request.row.presence_penalty = 2;
  request.seen = {{0, 1, false}};
  EXPECT_EQ(SampleOne(*backend_, *stream_, {5, 4, 1}, request.Get()), 1);
}

TEST_P(SampleAdjustTest, MinusInfinityAndNanStayWithoutAChance) {
  for (const float dead : {-INFINITY, NAN}) {
    RowWithLists request;
    request.row.repetition_penalty = 0.01F;
    request.row.presence_penalty = -2;
    request.logit_bias = {{0, 100}};
    request.seen = {{0, 3, true}};
    for (const float temperature : {0.0F, 1.0F}) {
      request.row.temperature = temperature;
      request.allowed.clear();
      EXPECT_EQ(SampleOne(*backend_, *stream_, {dead, -kLargest}, request.Get()), 1);
      request.allowed = {0, 1};
      EXPECT_EQ(SampleOne(*backend_, *stream_, {dead, -kLargest}, request.Get()), 1);
    }
  }
}

TEST_P(SampleAdjustTest, InfinityCountsAsTheLargestFloat) {
  RowWithLists request;
  request.row.repetition_penalty = 2;
  request.seen = {{0, 0, true}};
  EXPECT_EQ(Greedy({INFINITY, kLargest / 2}, request), 0);  // a tie
  EXPECT_EQ(Greedy({INFINITY, kLargest}, request), 1);
}

TEST_P(SampleAdjustTest, OnlyAllowedTokensAreDrawn) {
  RowWithLists request;
  request.allowed = {4, 1};
  std::vector<int> counts(5);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    request.row = Row(2);
    request.row.seed = seed;
    ++counts[static_cast<size_t>(SampleOne(*backend_, *stream_, {9, 1, 9, 9, 1}, request.Get()))];
  }
  EXPECT_GT(counts[1], 0);
  EXPECT_GT(counts[4], 0);
  EXPECT_EQ(counts[1] + counts[4], 100);
  EXPECT_EQ(Greedy({9, 1, 9, 9, 1}, request), 1);  // a tie: not the first of the list
}

TEST_P(SampleAdjustTest, WhereNothingIsLeftTheLowestAllowedIdIsTaken) {
  const std::vector<float> live = {1, 2, 3, 4};
  const std::vector<float> dead(4, -INFINITY);
  for (const float temperature : {0.0F, 1.0F}) {
    RowWithLists request;
    request.row.temperature = temperature;
    const auto token = [&](const std::vector<float>& logits) {
      return SampleOne(*backend_, *stream_, logits, request.Get());
    };
    request.allowed = {3, 2};
    EXPECT_EQ(token(dead), 2);
    request.suppressed = {2};
    EXPECT_EQ(token(dead), 3);
    EXPECT_EQ(token({1, 2, 3, NAN}), 3);
    request.suppressed = {2, 3};
    EXPECT_EQ(token(live), 2);
    request.suppressed = {3, 2, 1, 0, 0, 3};
    EXPECT_EQ(token(live), 2);
    request.allowed.clear();
    EXPECT_EQ(token(live), 0);
  }
}

TEST_P(SampleAdjustTest, AVocabularyOfOneAlwaysGivesItsToken) {
  for (const float logit : {0.0F, 1e30F, -1e30F, NAN, INFINITY, -INFINITY}) {
    for (const float temperature : {0.0F, 1.0F}) {
      RowWithLists request;
      request.row = Row(temperature, 1, 0.1F, 1.0F);
      request.row.typical_p = 0.01F;
      request.row.repetition_penalty = 10;
      request.row.frequency_penalty = 2;
      request.row.presence_penalty = -2;
      request.seen = {{0, 7, true}};
      request.logit_bias = {{0, -100}};
      request.allowed = {0};
      EXPECT_EQ(SampleOne(*backend_, *stream_, {logit}, request.Get()), 0);
      request.suppressed = {0};
      EXPECT_EQ(SampleOne(*backend_, *stream_, {logit}, request.Get()), 0);
    }
  }
}

TEST_P(SampleAdjustTest, LogprobsStayThoseOfTheRawLogits) {
  const Tensor logits = Tensor::Random(DType::kFloat32, {1, 500}, 3, 3.0F);
  RowWithLists request;
  request.row = Row(0.7F, 200, 0.9F, 0.01F);
  request.row.typical_p = 0.8F;
  request.row.repetition_penalty = 1.5F;
  request.row.frequency_penalty = 0.5F;
  request.row.presence_penalty = 0.5F;
  request.row.seed = 5;
  for (int32_t id = 0; id < 100; ++id) {
    request.seen.push_back({id, id % 3, true});
    request.logit_bias.push_back({499 - id, 3.0F});
    request.allowed.push_back(id * 5);
    request.suppressed.push_back(id * 2);
  }
  const Sampled got = SampleRows(*backend_, *stream_, logits, {request.Get()});
  const Sampled plain = SampleRows(*backend_, *stream_, logits, {Row(0)});
  EXPECT_EQ(got.top_ids.bytes(), plain.top_ids.bytes());
  EXPECT_EQ(got.top_logprobs.bytes(), plain.top_logprobs.bytes());
  double total = 0;
  for (const float logit : logits.floats()) total += std::exp(static_cast<double>(logit));
  EXPECT_NEAR(got.logprobs.at(0), logits.at(got.tokens.int_at(0)) - std::log(total), 2e-6);
}

class SampleIdsDeathTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Kernels, SampleIdsDeathTest,
                         testing::Values(KernelCase{Kernels::kReference, DType::kFloat32},
                                         KernelCase{Kernels::kPortable, DType::kFloat32}),
                         KernelCaseName);

TEST_P(SampleIdsDeathTest, AnIdOutsideTheVocabularyIsCaught) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto sample = [&](const RowWithLists& request) {
    SampleOne(*backend_, *stream_, {1, 2, 3}, request.Get());
  };
  RowWithLists biased;
  biased.logit_bias = {{3, 1}};
  EXPECT_DEATH(sample(biased), "a biased token id is out of range");
  RowWithLists seen;
  seen.row.presence_penalty = 1;
  seen.seen = {{-1, 1, false}};
  EXPECT_DEATH(sample(seen), "a seen token id is out of range");
  RowWithLists allowed;
  allowed.allowed = {0, 3};
  EXPECT_DEATH(sample(allowed), "an allowed token id is out of range");
  RowWithLists suppressed;
  suppressed.suppressed = {3};
  EXPECT_DEATH(sample(suppressed), "a suppressed token id is out of range");
}

TEST_P(SampleIdsDeathTest, AParameterOutOfRangeIsCaught) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  RowWithLists request;
  request.row.typical_p = 0;
  EXPECT_DEATH(SampleOne(*backend_, *stream_, {1, 2}, request.Get()), "out of range");
  request.row.typical_p = 1;
  request.row.repetition_penalty = 0;
  EXPECT_DEATH(SampleOne(*backend_, *stream_, {1, 2}, request.Get()), "out of range");
  request.row.repetition_penalty = 1;
  request.row.frequency_penalty = NAN;
  EXPECT_DEATH(SampleOne(*backend_, *stream_, {1, 2}, request.Get()), "not finite");
}

}  // namespace
}  // namespace moed
