// What a draw depends on: seed, continuation and position, and nothing beside its own row.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "tests/kernels/cpu/sample_harness.h"

namespace moed {
namespace {

class SampleDrawTest : public KernelTest {
 protected:
  // `count` rows of the same logits; row_of(i) is the i-th.
  template <typename RowOf>
  std::vector<int32_t> DrawMany(const std::vector<float>& logits, int count, RowOf row_of) {
    constexpr int kRows = 64;
    std::vector<float> repeated;
    for (int i = 0; i < kRows; ++i) repeated.insert(repeated.end(), logits.begin(), logits.end());
    const Tensor tensor =
        Tensor::Of(DType::kFloat32, {kRows, static_cast<int64_t>(logits.size())}, repeated);
    std::vector<int32_t> tokens;
    while (static_cast<int>(tokens.size()) < count) {
      const int first = static_cast<int>(tokens.size());
      std::vector<SamplingRow> rows;
      for (int i = 0; i < kRows; ++i) rows.push_back(row_of(first + i));
      const std::vector<int32_t> drawn =
          SampleRows(*backend_, *stream_, tensor, rows).tokens.ints();
      tokens.insert(tokens.end(), drawn.begin(), drawn.end());
    }
    tokens.resize(static_cast<size_t>(count));
    return tokens;
  }
};
INSTANTIATE_TEST_SUITE_P(Kernels, SampleDrawTest, testing::ValuesIn(SampleKernelCases()),
                         KernelCaseName);

// A row whose i-th draw differs from the others in one number only.
struct Varied {
  const char* what;
  SamplingRow (*row_of)(int i);
};
const Varied kVaried[] = {
    {"seed",
     [](int i) {
       SamplingRow row = Row(1);
       row.seed = static_cast<uint64_t>(i);
       return row;
     }},
    {"high word of the seed",
     [](int i) {
       SamplingRow row = Row(1);
       row.seed = static_cast<uint64_t>(i) << 32;
       return row;
     }},
    {"continuation",
     [](int i) {
       SamplingRow row = Row(1);
       row.seed = 11;
       row.choice_index = static_cast<uint32_t>(i);
       return row;
     }},
    {"position",
     [](int i) {
       SamplingRow row = Row(1);
       row.seed = 12;
       row.position = i;
       return row;
     }},
};

// Neighbours in every number a draw is made from are as independent as far ones.
TEST_P(SampleDrawTest, DrawsOfNeighbouringSeedsContinuationsAndPositionsAreIndependent) {
  const std::vector<double> p = {0.2, 0.5, 0.3};
  std::vector<float> logits;
  for (const double share : p) logits.push_back(static_cast<float>(std::log(share)));
  std::vector<double> p_of_pair;
  for (const double first : p) {
    for (const double second : p) p_of_pair.push_back(first * second);
  }
  constexpr int kDraws = 12800;
  for (const Varied& varied : kVaried) {
    const std::vector<int32_t> tokens = DrawMany(logits, kDraws, varied.row_of);
    std::vector<int> counts(p.size());
    std::vector<int> pairs(p_of_pair.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      ++counts[static_cast<size_t>(tokens[i])];
      if (i % 2 == 1) ++pairs[static_cast<size_t>(tokens[i - 1] * 3 + tokens[i])];
    }
    ExpectCounts(counts, p, varied.what);
    ExpectCounts(pairs, p_of_pair, std::string("pairs of neighbours by ") + varied.what);
  }
}

TEST_P(SampleDrawTest, EqualRowsGetEqualTokens) {
  const std::vector<float> logits(1001, 1.0F);
  for (const Varied& varied : kVaried) {
    const std::vector<int32_t> once = DrawMany(logits, 64, varied.row_of);
    EXPECT_EQ(DrawMany(logits, 64, varied.row_of), once) << varied.what;
  }
}

// One row at every place of a batch of others, with other neighbours each time.
TEST_P(SampleDrawTest, ARowGetsTheSameTokenAtEveryPlaceOfABatch) {
  const int64_t vocab = 777;
  constexpr int32_t kRows = 7;
  const Tensor row_logits = Tensor::Random(DType::kFloat32, {1, vocab}, 5, 2.0F);
  RowWithLists request;
  request.row = Row(1.1F, 300, 0.97F, 0.001F);
  request.row.typical_p = 0.95F;
  request.row.repetition_penalty = 1.2F;
  request.row.frequency_penalty = 0.2F;
  request.row.seed = 99;
  for (int32_t id = 0; id < 100; ++id) request.seen.push_back({id * 7, id % 4, true});
  request.logit_bias = {{3, 1.0F}, {776, 4.0F}};
  request.suppressed = {0, 5};
  const int32_t alone = SampleOne(*backend_, *stream_, row_logits.floats(), request.Get());
  for (int32_t place = 0; place < kRows; ++place) {
    Tensor logits =
        Tensor::Random(DType::kFloat32, {kRows, vocab}, 100 + static_cast<uint32_t>(place), 3.0F);
    for (int64_t id = 0; id < vocab; ++id) logits.set(place * vocab + id, row_logits.at(id));
    std::vector<SamplingRow> rows(kRows, Row(2));
    for (int32_t i = 0; i < kRows; ++i) {
      rows[static_cast<size_t>(i)].slot = i;
      rows[static_cast<size_t>(i)].seed = static_cast<uint64_t>(place * kRows + i);
    }
    rows[static_cast<size_t>(place)] = request.Get();
    rows[static_cast<size_t>(place)].slot = place;
    const Sampled got = SampleRows(*backend_, *stream_, logits, rows);
    EXPECT_EQ(got.tokens.int_at(place), alone) << "place " << place;
    EXPECT_EQ(got.last_sampled.int_at(place), alone) << "place " << place;
  }
}

TEST_P(SampleDrawTest, RowsInCompanyAreThoseOfRowsAlone) {
  const int64_t vocab = 5000;
  constexpr int32_t kRows = 16;
  const Tensor logits = Tensor::Random(DType::kFloat32, {kRows, vocab}, 31, 2.5F);
  std::vector<RowWithLists> requests(kRows);
  std::vector<SamplingRow> rows;
  std::mt19937 engine(8);
  for (int32_t i = 0; i < kRows; ++i) {
    RowWithLists& request = requests[static_cast<size_t>(i)];
    request.row = Row(i % 5 == 0 ? 0.0F : 0.9F, i % 3 == 0 ? 400 : 0, i % 2 == 0 ? 1.0F : 0.95F);
    request.row.typical_p = i % 4 == 0 ? 1.0F : 0.7F;
    request.row.repetition_penalty = i % 3 == 1 ? 1.2F : 1.0F;
    request.row.frequency_penalty = i % 4 == 1 ? 0.3F : 0.0F;
    request.row.seed = static_cast<uint64_t>(i);
    request.row.slot = i;
    for (int32_t id = i; id < vocab; id += 3 + static_cast<int32_t>(engine() % 30)) {
      request.seen.push_back({id, id % 3, true});
      if (i % 2 == 0) request.logit_bias.push_back({id, 0.5F});
      if (i % 7 == 3) request.allowed.push_back(id);
      if (i % 6 == 2) request.suppressed.push_back(id);
    }
    rows.push_back(request.Get());
  }
  const Sampled all = SampleRows(*backend_, *stream_, logits, rows);
  const ConstTensorView view = logits;
  for (int64_t i = 0; i < kRows; ++i) {
    const Sampled one =
        SampleRows(*backend_, *stream_, view.Rows(i, 1), {rows[static_cast<size_t>(i)]});
    EXPECT_EQ(one.tokens.int_at(0), all.tokens.int_at(i)) << "row " << i;
    EXPECT_EQ(one.logprobs.bytes(), all.logprobs.bytes(i, 1)) << "row " << i;
  }
  const auto threads = MakeTestBackend(GetParam(), 4);
  EXPECT_EQ(SampleRows(*threads, *stream_, logits, rows).tokens.bytes(), all.tokens.bytes());
}

}  // namespace
}  // namespace moed
