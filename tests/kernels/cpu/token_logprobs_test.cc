#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/kernels/cpu/sample_harness.h"

namespace moed {
namespace {

struct Scored {
  Tensor logprobs, top_ids, top_logprobs;
};

class TokenLogprobsTest : public KernelTest {
 protected:
  static Scored Score(Backend& backend, Stream& stream, const ConstTensorView& logits,
                      const std::vector<int32_t>& targets) {
    const auto count = static_cast<int64_t>(targets.size());
    Scored out{Tensor(DType::kFloat32, {count}), Tensor(DType::kInt32, {count, kMaxLogprobs}),
               Tensor(DType::kFloat32, {count, kMaxLogprobs})};
    const Tensor ids = Tensor::Ints({count}, targets);
    backend.TokenLogprobs(
        stream, {logits, ids, out.logprobs.view(), out.top_ids.view(), out.top_logprobs.view()});
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, TokenLogprobsTest, testing::ValuesIn(SampleKernelCases()),
                         KernelCaseName);

TEST_P(TokenLogprobsTest, MatchLogSoftmaxInDouble) {
  for (const int64_t vocab : {1, 2, 19, 20, 21, 1003}) {
    const int64_t rows = 9;
    const Tensor logits = Tensor::Random(DType::kFloat32, {rows, vocab}, 1, 4.0F);
    std::vector<int32_t> targets;
    for (int64_t r = 0; r < rows; ++r) targets.push_back(static_cast<int32_t>(r * 131 % vocab));
    const Scored got = Score(*backend_, *stream_, logits, targets);
    for (int64_t r = 0; r < rows; ++r) {
      double total = 0;
      for (int64_t id = 0; id < vocab; ++id) total += std::exp(double{logits.at(r * vocab + id)});
      const auto wanted = [&](int64_t id) { return logits.at(r * vocab + id) - std::log(total); };
      std::vector<int32_t> order(static_cast<size_t>(vocab));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return wanted(a) > wanted(b); });
      EXPECT_NEAR(got.logprobs.at(r), wanted(targets[static_cast<size_t>(r)]), 4e-6);
      for (int64_t i = 0; i < kMaxLogprobs; ++i) {
        const int64_t at = r * kMaxLogprobs + i;
        if (i >= vocab) {
          EXPECT_EQ(got.top_ids.int_at(at), -1);
          EXPECT_EQ(got.top_logprobs.at(at), -INFINITY);
          continue;
        }
        const int32_t id = order[static_cast<size_t>(i)];
        ASSERT_EQ(got.top_ids.int_at(at), id) << "row " << r << " of " << vocab << " logits";
        EXPECT_NEAR(got.top_logprobs.at(at), wanted(id), 4e-6);
      }
    }
  }
}

TEST_P(TokenLogprobsTest, HaveTheBitsThatSampleGivesInAnyBatchAndThreadCount) {
  const int64_t rows = 12;
  const Tensor logits = Tensor::Random(DType::kFloat32, {rows, 3001}, 2, 3.0F);
  std::vector<SamplingRow> sampling(static_cast<size_t>(rows), Row(1.5F));
  for (size_t r = 0; r < sampling.size(); ++r) sampling[r].seed = r;
  const Sampled sampled = SampleRows(*backend_, *stream_, logits, sampling);
  const Scored all = Score(*backend_, *stream_, logits, sampled.tokens.ints());
  EXPECT_EQ(all.logprobs.bytes(), sampled.logprobs.bytes());
  EXPECT_EQ(all.top_ids.bytes(), sampled.top_ids.bytes());
  EXPECT_EQ(all.top_logprobs.bytes(), sampled.top_logprobs.bytes());
  const ConstTensorView view = logits;
  for (int64_t r = 0; r < rows; ++r) {
    const Scored one = Score(*backend_, *stream_, view.Rows(r, 1), {sampled.tokens.int_at(r)});
    EXPECT_EQ(one.logprobs.bytes(), all.logprobs.bytes(r, 1));
    EXPECT_EQ(one.top_logprobs.bytes(), all.top_logprobs.bytes(r, 1));
  }
  const auto threads = MakeTestBackend(GetParam(), 4);
  EXPECT_EQ(Score(*threads, *stream_, logits, sampled.tokens.ints()).logprobs.bytes(),
            all.logprobs.bytes());
}

TEST_P(TokenLogprobsTest, ExtremesAndTies) {
  const Tensor logits =
      Tensor::Of(DType::kFloat32, {4, 3},
                 {2, NAN, 2, INFINITY, -INFINITY, INFINITY, NAN, -INFINITY, NAN, 1e30F, -1e30F, 0});
  const Scored got = Score(*backend_, *stream_, logits, {2, 0, 1, 1});
  EXPECT_NEAR(got.logprobs.at(0), std::log(0.5), 1e-6);
  EXPECT_NEAR(got.logprobs.at(1), std::log(0.5), 1e-6);
  EXPECT_EQ(got.logprobs.at(2), -INFINITY);
  EXPECT_EQ(got.logprobs.at(3), -2e30F);
  const std::vector<int32_t> want = {0, 2, 1, 0, 2, 1, 0, 1, 2, 0, 2, 1};
  for (int64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(got.top_ids.int_at(i / 3 * kMaxLogprobs + i % 3), want[static_cast<size_t>(i)])
        << "row " << i / 3 << " place " << i % 3;
  }
}

TEST_P(TokenLogprobsTest, NoRowsIsNoWork) {
  const Tensor logits(DType::kFloat32, {0, 100});
  Score(*backend_, *stream_, logits, {});
}

TEST(TokenLogprobsDeathTest, ATargetOutsideTheVocabularyIsCaught) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  for (const Kernels kernels : {Kernels::kReference, Kernels::kBaseline}) {
    const auto backend = MakeTestBackend({kernels, DType::kFloat32});
    const auto stream = backend->CreateStream();
    const Tensor logits(DType::kFloat32, {1, 4});
    const Tensor target = Tensor::Ints({1}, {4});
    Tensor logprobs(DType::kFloat32, {1});
    Tensor ids(DType::kInt32, {1, kMaxLogprobs});
    Tensor tops(DType::kFloat32, {1, kMaxLogprobs});
    EXPECT_DEATH(
        backend->TokenLogprobs(*stream, {logits, target, logprobs.view(), ids.view(), tops.view()}),
        "a target is out of range");
  }
}

}  // namespace
}  // namespace moed
