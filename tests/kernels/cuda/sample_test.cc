// The token of every row is that of the CPU's reference kernels.
#include <cmath>
#include <limits>
#include <string>

#include "tests/kernels/cuda/sampling_fixture.h"

namespace moed::cuda {
namespace {

using SampleTest = SamplingTest;

Tensor OneRow(const std::vector<float>& logits) {
  return Tensor::Of(DType::kFloat32, {1, static_cast<int64_t>(logits.size())}, logits);
}

// All parameters at random, in batches; a row whose token hangs by a hair is left out.
TEST_F(SampleTest, TokensAreTheReferencesOverRandomRows) {
  constexpr uint32_t kSeed = 91;
  std::mt19937 engine(kSeed);
  int compared = 0;
  constexpr int kBatches = 24;
  constexpr int kRows = 10;
  for (int batch = 0; batch < kBatches; ++batch) {
    const int32_t vocab = std::vector<int32_t>{1, 2, 7, 33, 300, 1000, 1500}[engine() % 7];
    std::vector<float> logits;
    std::vector<RowWithLists> requests;
    for (int i = 0; i < kRows; ++i) {
      const std::vector<float> row_logits = RandomLogits(engine, vocab);
      const RowWithLists request = RandomRequest(engine, vocab);
      if (TokenOf(row_logits, request.Get()).margin < kMargin) continue;
      logits.insert(logits.end(), row_logits.begin(), row_logits.end());
      requests.push_back(request);
    }
    std::vector<SamplingRow> rows;
    std::string what = "batch " + std::to_string(batch) + ", vocabulary " + std::to_string(vocab);
    for (RowWithLists& request : requests) {
      request.row.slot = static_cast<int32_t>(rows.size());
      rows.push_back(request.Get());
      what += "\n  " + Describe(rows.back());
    }
    compared += static_cast<int>(rows.size());
    const Tensor tensor =
        Tensor::Of(DType::kFloat32, {static_cast<int64_t>(rows.size()), vocab}, logits);
    ExpectAsReference(tensor, rows, what);
  }
  EXPECT_GT(compared, kBatches * kRows * 9 / 10);
}

// Blocks of 32 to 512 threads, and rows that end anywhere within their stride.
TEST_F(SampleTest, TokensAreTheReferencesForVocabulariesOfEverySize) {
  uint64_t seed = 0;
  for (const int64_t vocab : {31, 32, 33, 1023, 1024, 1025, 2048, 5000, 7000, 8192, 16385, 32000}) {
    std::vector<SamplingRow> rows = {Row(0), Row(1), Row(0.8F, 50, 0.9F), Row(1.5F, 0, 0.95F)};
    rows.push_back(Row(1, 0, 1, 0.02F));
    rows.back().typical_p = 0.9F;
    for (SamplingRow& row : rows) {
      row.slot = static_cast<int32_t>(&row - rows.data());
      row.seed = ++seed;
    }
    const Tensor logits = Tensor::Random(DType::kFloat32, {5, vocab}, 17, 3.0F);
    ExpectAsReference(logits, rows, "vocabulary " + std::to_string(vocab));
  }
}

TEST_F(SampleTest, NothingDependsOnTheOrderOfBlocksAndThreads) {
  std::mt19937 engine(5);
  constexpr int32_t kVocab = 1100;
  std::vector<float> logits;
  std::vector<RowWithLists> requests;
  std::vector<SamplingRow> rows;
  for (int i = 0; i < 8; ++i) {
    const std::vector<float> row_logits = RandomLogits(engine, kVocab);
    logits.insert(logits.end(), row_logits.begin(), row_logits.end());
    requests.push_back(RandomRequest(engine, kVocab));
    requests.back().row.slot = i;
  }
  rows.reserve(requests.size());
  for (const RowWithLists& request : requests) rows.push_back(request.Get());
  const Tensor tensor = Tensor::Of(DType::kFloat32, {8, kVocab}, logits);
  const Sampled first = SampleOnDevice(tensor, rows);
  UnderEachBlockOrder([&] {
    const Sampled got = SampleOnDevice(tensor, rows);
    EXPECT_EQ(got.tokens.bytes(), first.tokens.bytes());
    EXPECT_EQ(got.logprobs.bytes(), first.logprobs.bytes());
    EXPECT_EQ(got.top_ids.bytes(), first.top_ids.bytes());
    EXPECT_EQ(got.top_logprobs.bytes(), first.top_logprobs.bytes());
  });
}

TEST_F(SampleTest, GreedyTakesTheLargestAndTiesTheLowestId) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {2, 5}, {1, 3, 2, 3, 3, -0.0F, 0, -1, 0, -2});
  EXPECT_EQ(SampleOnDevice(logits, {Row(0), Row(0)}).tokens.ints(), (std::vector<int32_t>{1, 0}));
}

TEST_F(SampleTest, TheTokenIsWrittenToItsSlotOnly) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {2, 3}, {0, 5, 0, 0, 0, 5});
  SamplingRow first = Row(0);
  first.slot = 9;
  SamplingRow second = Row(0);
  second.slot = 4;
  const Sampled got = SampleOnDevice(logits, {first, second});
  for (int64_t slot = 0; slot < 64; ++slot) {
    EXPECT_EQ(got.last_sampled.int_at(slot), slot == 9 ? 1 : slot == 4 ? 2 : -7);
  }
}

TEST_F(SampleTest, TheTopIsWrittenOnlyWhereItIsWanted) {
  const Tensor logits = Tensor::Random(DType::kFloat32, {2, 100}, 3);
  const std::vector<SamplingRow> rows = {Row(0), Row(1)};
  const Sampled with = SampleOnDevice(logits, rows);
  const Sampled without = Finish(Enqueue(stream(), logits, rows, false));
  EXPECT_EQ(without.tokens.bytes(), with.tokens.bytes());
  EXPECT_EQ(without.logprobs.bytes(), with.logprobs.bytes());
  for (const int32_t id : without.top_ids.ints()) {
    ASSERT_EQ(id, static_cast<int32_t>(0xCDCDCDCD));
  }
}

// More equal tokens than a search looks at together, alone and between others; logits with the few
// values that bfloat16 leaves.
TEST_F(SampleTest, AmongManyEqualTokensTheLowerIdsComeFirst) {
  constexpr int32_t kVocab = 1500;
  for (const int32_t num_likely : {0, 1, 700}) {
    std::vector<float> logits(kVocab, 1.0F);
    for (int32_t i = 0; i < num_likely; ++i) logits[static_cast<size_t>(kVocab - 1 - i)] = 1.5F;
    std::vector<float> rounded = Tensor::Random(DType::kBFloat16, {1, kVocab}, 8, 0.1F).floats();
    for (const std::vector<float>& row_logits : {logits, rounded}) {
      for (SamplingRow row :
           {Row(1), Row(1, 400), Row(1, 1000), Row(1, 0, 0.4F), Row(1, 0, 1, 1)}) {
        for (const float typical_p : {1.0F, 0.37F}) {
          row.typical_p = typical_p;
          row.seed += 12;
          if (TokenOf(row_logits, row).margin < kMargin) continue;
          ExpectAsReference(OneRow(row_logits), {row}, Describe(row));
        }
      }
    }
  }
}

TEST_F(SampleTest, LogitsWithoutAnyChance) {
  const std::vector<float> dead = {-INFINITY, NAN, -INFINITY, -INFINITY};
  const std::vector<float> live = {1, 2, 3, 4};
  for (const float temperature : {0.0F, 1.0F}) {
    RowWithLists request;
    request.row = Row(temperature);
    const auto token = [&](const std::vector<float>& logits) {
      return TokenOnDevice(logits, request.Get());
    };
    EXPECT_EQ(token(dead), 0);
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
    request.allowed = {1};
    request.suppressed.clear();
    EXPECT_EQ(token(live), 1);
  }
}

// Neither by a bias nor by a penalty that is a reward.
TEST_F(SampleTest, NothingBringsBackWhatHasNoChance) {
  const float largest = std::numeric_limits<float>::max();
  for (const float temperature : {0.0F, 1.0F}) {
    RowWithLists request;
    request.row = Row(temperature);
    request.row.presence_penalty = -2;
    request.logit_bias = {{0, 100}};
    request.seen = {{0, 3, true}};
    for (const float dead : {-INFINITY, NAN}) {
      request.allowed.clear();
      EXPECT_EQ(TokenOnDevice({dead, -largest}, request.Get()), 1);
      request.allowed = {0, 1};
      EXPECT_EQ(TokenOnDevice({dead, -largest}, request.Get()), 1);
    }
    request.allowed = {1};
    EXPECT_EQ(TokenOnDevice({5, -largest}, request.Get()), 1);
    request.allowed.clear();
    request.suppressed = {0};
    EXPECT_EQ(TokenOnDevice({5, -largest}, request.Get()), 1);
  }
}

TEST_F(SampleTest, AShareThatIsReachedExactlyIsEnough) {
  SamplingRow typical = Row(1);
  typical.typical_p = 0.5F;
  for (SamplingRow row : {Row(1, 0, 0.5F), typical}) {
    std::vector<int> counts(4);
    for (row.seed = 0; row.seed < 40; ++row.seed) {
      ++counts[static_cast<size_t>(TokenOnDevice({2, 2, 2, 2}, row))];
    }
    EXPECT_GT(counts[0], 0);
    EXPECT_GT(counts[1], 0);
    EXPECT_EQ(counts[2] + counts[3], 0) << Describe(row);
  }
}

TEST_F(SampleTest, NanCountsAsMinusInfinityAndInfinityAsTheLargestFloat) {
  const float largest = std::numeric_limits<float>::max();
  for (const float temperature : {0.0F, 0.5F}) {
    ExpectAsReference(Tensor::Of(DType::kFloat32, {4, 4},
                                 {NAN, 1, 2, NAN, 0, INFINITY, NAN, INFINITY, largest, INFINITY, 0,
                                  1, -INFINITY, -largest, NAN, -INFINITY}),
                      {Row(temperature), Row(temperature), Row(temperature), Row(temperature)},
                      "extremes");
  }
}

TEST_F(SampleTest, AVocabularyOfOneAlwaysGivesItsToken) {
  for (const float logit : {0.0F, 1e30F, -1e30F, NAN, INFINITY, -INFINITY}) {
    for (const float temperature : {0.0F, 1.0F}) {
      RowWithLists request;
      request.row = Row(temperature, 1, 0.1F, 1.0F);
      request.row.typical_p = 0.01F;
      request.row.repetition_penalty = 10;
      request.row.frequency_penalty = 2;
      request.seen = {{0, 7, true}};
      request.logit_bias = {{0, -100}};
      request.allowed = {0};
      EXPECT_EQ(TokenOnDevice({logit}, request.Get()), 0);
      request.suppressed = {0};
      EXPECT_EQ(TokenOnDevice({logit}, request.Get()), 0);
    }
  }
}

TEST_F(SampleTest, ExtremeParametersAreHarmless) {
  const std::vector<float> wide = {1e30F, -1e30F, 1e-40F, 2, -INFINITY};
  for (const float temperature : {1e-45F, 1e-38F, 1.0F, 1e20F, 3e38F}) {
    for (const float top_p : {1e-30F, 1e-6F, 0.99999994F}) {
      for (const int32_t top_k : {0, 1, 4, std::numeric_limits<int32_t>::max()}) {
        SamplingRow row = Row(temperature, top_k, top_p);
        ExpectAsReference(OneRow(wide), {row}, Describe(row));
        ExpectAsReference(OneRow({3, 3, 3, 2.9999998F}), {row}, Describe(row));
        row.typical_p = 1e-30F;
        row.min_p = 1e-30F;
        ExpectAsReference(OneRow(wide), {row}, Describe(row));
      }
    }
  }
}

// A cut to fewer tokens than one search looks at, from many that weigh nothing.
TEST_F(SampleTest, TokensThatWeighNothingAreNeverDrawn) {
  std::vector<float> logits(1000, -200.0F);
  logits[700] = 1;
  logits[3] = 0.5F;
  for (const int32_t top_k : {0, 2, 5, 900}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SamplingRow row = Row(1, top_k);
      row.seed = seed;
      ExpectAsReference(OneRow(logits), {row}, Describe(row));
    }
  }
}

// Independent of the reference: how often each token is drawn.
TEST_F(SampleTest, DrawsFollowTheAdjustedAndCutDistribution) {
  const std::vector<float> logits = {2.0F, 0.5F, 1.9F, -1.0F, 1.0F, 0.0F, 1.5F, -3.0F};
  std::vector<RowWithLists> requests(4);
  requests[0].row = Row(1);
  requests[1].row = Row(0.7F, 5, 0.9F, 0.1F);
  requests[2].row = Row(2);
  requests[2].row.typical_p = 0.8F;
  requests[3].row = Row(0.8F);
  requests[3].row.repetition_penalty = 1.7F;
  requests[3].row.frequency_penalty = 0.4F;
  requests[3].row.presence_penalty = -0.6F;
  requests[3].seen = {{0, 0, true}, {2, 2, false}, {3, 1, true}, {6, 3, true}};
  requests[3].logit_bias = {{7, 4.5F}, {0, -1.5F}};
  requests[3].suppressed = {5};
  constexpr int kRows = 64;
  constexpr int kDraws = 1280;
  std::vector<float> repeated;
  for (int i = 0; i < kRows; ++i) repeated.insert(repeated.end(), logits.begin(), logits.end());
  const Tensor tensor = Tensor::Of(DType::kFloat32, {kRows, 8}, repeated);
  for (const RowWithLists& request : requests) {
    SamplingRow row = request.Get();
    row.seed = 1234;
    const WantedDistribution wanted = CutLogits(WantedLogits(logits, row), row);
    ASSERT_GT(wanted.margin, 1e-4) << "not a case to test: " << Describe(row);
    std::vector<int> counts(logits.size());
    for (int drawn = 0; drawn < kDraws; drawn += kRows) {
      std::vector<SamplingRow> rows(kRows, row);
      for (int i = 0; i < kRows; ++i) {
        rows[static_cast<size_t>(i)].position = drawn + i;
        rows[static_cast<size_t>(i)].slot = i;
      }
      const SampleCall call = Enqueue(stream(), tensor, rows, /*want_top=*/false);
      for (const int32_t token : Download(call.tokens)) {
        ++counts[static_cast<size_t>(token)];
      }
    }
    ExpectCounts(counts, wanted.probability, Describe(row));
  }
}

// Less shared memory than a block of 512 threads would use.
TEST_F(SampleTest, ADeviceWithLittleSharedMemoryGivesTheSameTokens) {
  CudaDeviceInfo info;
  ASSERT_EQ(api().describe_device(0, &info), kCudaSuccess);
  info.max_shared_bytes_per_block = 48 * 1024;
  auto small = CudaStream::Create(api(), info);
  ASSERT_TRUE(small.ok());
  const Tensor logits = Tensor::Random(DType::kFloat32, {2, 17000}, 4, 2.0F);
  SamplingRow row = Row(1.2F, 5000, 0.9F);
  row.typical_p = 0.9F;
  const std::vector<SamplingRow> rows = {row, Row(0)};
  const SampleCall call = Enqueue(**small, logits, rows);
  ASSERT_TRUE((*small)->Synchronize().ok());
  ExpectSame(Finish(call), SampleOnReference(logits, rows), "48 KiB");
}

}  // namespace
}  // namespace moed::cuda
