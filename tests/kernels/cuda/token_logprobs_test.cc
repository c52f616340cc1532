#include <cmath>
#include <string>

#include "tests/kernels/cuda/sampling_fixture.h"

namespace moed::cuda {
namespace {

struct Scored {
  Tensor logprobs, top_ids, top_logprobs;
};

class TokenLogprobsTest : public SamplingTest {
 protected:
  Scored Score(const Tensor& logits, const std::vector<int32_t>& targets) {
    const auto count = static_cast<int64_t>(targets.size());
    const DeviceArray<float> device_logits = Upload(logits.floats());
    const DeviceArray<int32_t> device_targets = Upload(targets);
    const auto logprobs = Make<float>(count);
    const auto top_ids = Make<int32_t>(count * kMaxLogprobs);
    const auto top_logprobs = Make<float>(count * kMaxLogprobs);
    kernels().TokenLogprobs(
        stream(),
        {device_logits.View({count, logits.dim(1)}), device_targets.View(), logprobs.View(),
         top_ids.View({count, kMaxLogprobs}), top_logprobs.View({count, kMaxLogprobs})});
    return {Tensor::Of(DType::kFloat32, {count}, Download(logprobs)),
            Tensor::Ints({count, kMaxLogprobs}, Download(top_ids)),
            Tensor::Of(DType::kFloat32, {count, kMaxLogprobs}, Download(top_logprobs))};
  }

  void ExpectAsReference(const Tensor& logits, const std::vector<int32_t>& targets,
                         const std::string& what) {
    const auto count = static_cast<int64_t>(targets.size());
    Scored want{Tensor(DType::kFloat32, {count}), Tensor(DType::kInt32, {count, kMaxLogprobs}),
                Tensor(DType::kFloat32, {count, kMaxLogprobs})};
    const Tensor ids = Tensor::Ints({count}, targets);
    reference().TokenLogprobs(reference_stream(), {logits, ids, want.logprobs.view(),
                                                   want.top_ids.view(), want.top_logprobs.view()});
    const Scored got = Score(logits, targets);
    EXPECT_EQ(got.top_ids.ints(), want.top_ids.ints()) << what;
    ExpectNear(got.logprobs, want.logprobs, what + ", logprobs");
    ExpectNear(got.top_logprobs, want.top_logprobs, what + ", top_logprobs");
  }

  static void ExpectNear(const Tensor& got, const Tensor& want, const std::string& what) {
    std::vector<double> wanted;
    std::vector<double> allowed;
    for (const float logprob : want.floats()) {
      wanted.push_back(logprob);
      allowed.push_back(LogprobTolerance(logprob));
    }
    ExpectClose(got.floats(), wanted, allowed, what);
  }
};

TEST_F(TokenLogprobsTest, AreTheReferencesForVocabulariesOfEverySize) {
  for (const int64_t vocab : {1, 2, 19, 20, 21, 32, 1003, 2048, 33000}) {
    const int64_t rows = vocab > 10000 ? 2 : 5;
    const Tensor logits = Tensor::Random(DType::kFloat32, {rows, vocab}, 1, 4.0F);
    std::vector<int32_t> targets;
    for (int64_t r = 0; r < rows; ++r) targets.push_back(static_cast<int32_t>(r * 131 % vocab));
    ExpectAsReference(logits, targets, "vocabulary " + std::to_string(vocab));
  }
}

TEST_F(TokenLogprobsTest, AreTheReferencesOverTiesAndInfinities) {
  std::mt19937 engine(19);
  for (const int32_t vocab : {5, 130, 700}) {
    std::vector<float> logits;
    constexpr int64_t kRows = 6;
    for (int64_t r = 0; r < kRows; ++r) {
      const std::vector<float> row = RandomLogits(engine, vocab);
      logits.insert(logits.end(), row.begin(), row.end());
    }
    ExpectAsReference(Tensor::Of(DType::kFloat32, {kRows, vocab}, logits), {0, 1, 2, 3, 4, 0},
                      "vocabulary " + std::to_string(vocab));
  }
}

TEST_F(TokenLogprobsTest, ExtremesAndTies) {
  ExpectAsReference(
      Tensor::Of(DType::kFloat32, {4, 3},
                 {2, NAN, 2, INFINITY, -INFINITY, INFINITY, NAN, -INFINITY, NAN, 1e30F, -1e30F, 0}),
      {2, 0, 1, 1}, "small rows");
  for (const float logit : {0.0F, -INFINITY, NAN, INFINITY, -1e38F}) {
    const Tensor equal = Tensor::Of(DType::kFloat32, {1, 900}, std::vector<float>(900, logit));
    ExpectAsReference(equal, {899}, "900 equal logits");
  }
}

TEST_F(TokenLogprobsTest, HaveTheBitsThatSampleGivesInAnyBatchAndBlockOrder) {
  const int64_t rows = 4;
  const Tensor logits = Tensor::Random(DType::kFloat32, {rows, 3001}, 2, 3.0F);
  std::vector<SamplingRow> sampling(static_cast<size_t>(rows), Row(1.5F));
  for (size_t r = 0; r < sampling.size(); ++r) sampling[r].seed = r;
  const Sampled sampled = SampleOnDevice(logits, sampling);
  UnderEachBlockOrder([&] {
    const Scored all = Score(logits, sampled.tokens.ints());
    EXPECT_EQ(all.logprobs.bytes(), sampled.logprobs.bytes());
    EXPECT_EQ(all.top_ids.bytes(), sampled.top_ids.bytes());
    EXPECT_EQ(all.top_logprobs.bytes(), sampled.top_logprobs.bytes());
  });
  const std::vector<float> values = logits.floats();
  for (int64_t r = 0; r < rows; ++r) {
    const Tensor row =
        Tensor::Of(DType::kFloat32, {1, 3001},
                   std::vector<float>(values.begin() + r * 3001, values.begin() + (r + 1) * 3001));
    const Scored one = Score(row, {sampled.tokens.int_at(r)});
    EXPECT_EQ(one.logprobs.bytes(), sampled.logprobs.bytes(r, 1));
    EXPECT_EQ(one.top_logprobs.bytes(), sampled.top_logprobs.bytes(r, 1));
  }
}

TEST_F(TokenLogprobsTest, ATargetOutsideTheVocabularyHasNoProbability) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {2, 3}, {1, 2, 3, 4, 5, 6});
  const Scored got = Score(logits, {3, -1});
  EXPECT_EQ(got.logprobs.floats(), std::vector<float>(2, -INFINITY));
}

TEST_F(TokenLogprobsTest, NoRowsIsNoWork) { Score(Tensor(DType::kFloat32, {0, 100}), {}); }

}  // namespace
}  // namespace moed::cuda
