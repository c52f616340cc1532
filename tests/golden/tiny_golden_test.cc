// The tiny model against float64 and llama.cpp: data/tiny, made outside this project.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "nlohmann/json.hpp"
#include "tests/golden/golden_model.h"
#include "tests/support/model_harness.h"
#include "tests/support/shared_data.h"

namespace moed {
namespace {

constexpr int32_t kNumGreedyTokens = 32;

class TinyGoldenTest : public testing::TestWithParam<std::tuple<CpuIsa, DType>> {
 protected:
  CpuIsa isa() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  // Of logits with a standard deviation of 2; llama.cpp's own bfloat16 path shows 0.043.
  double Tolerance() const { return dtype() == DType::kFloat32 ? 1e-4 : 0.06; }

  // The eight prompts with greedy continuations, all in one batch on three ranks.
  HarnessRun RunCases(const nlohmann::json& cases, int32_t num_tokens, DType dtype) {
    HarnessOptions options = TinyModel().Options(isa(), dtype);
    options.num_ranks = 3;
    options.capture_logits = true;
    std::vector<HarnessRequest> requests;
    for (const nlohmann::json& one : cases) {
      HarnessRequest& request = requests.emplace_back();
      request.prompt = one.at("prompt").get<std::vector<int32_t>>();
      request.num_tokens = num_tokens;
      request.home_rank = static_cast<int>(requests.size());
      request.init.sampling.temperature = 0;
    }
    auto harness = ModelHarness::Create(options);
    EXPECT_TRUE(harness.ok()) << harness.status();
    if (!harness.ok()) return {};
    auto run = (*harness)->Run(requests);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *std::move(run) : HarnessRun();
  }

  void ExpectLogitsNear(const HarnessRun& run, const nlohmann::json& cases,
                        const std::vector<float>& expected, const char* reference) {
    const size_t vocab = expected.size() / cases.size();
    double worst = 0;
    std::string worst_place = "nowhere";
    for (size_t c = 0; c < cases.size(); ++c) {
      const int32_t last = static_cast<int32_t>(cases[c].at("prompt").size()) - 1;
      const std::vector<float>& logits = run.outputs.at(c).logits.at(last);
      ASSERT_EQ(logits.size(), vocab);
      for (size_t id = 0; id < vocab; ++id) {
        const double difference = Distance(logits[id], expected[c * vocab + id]);
        if (difference <= worst) continue;
        worst = difference;
        worst_place = "case " + std::to_string(c) + ", id " + std::to_string(id) + ": " +
                      std::to_string(logits[id]) + " for " +
                      std::to_string(expected[c * vocab + id]);
      }
    }
    EXPECT_LE(worst, Tolerance()) << "against " << reference << ", worst at " << worst_place;
    RecordProperty(std::string("worst_against_") + reference, std::to_string(worst));
  }
};

TEST_P(TinyGoldenTest, LogitsOfTheLastPositionMatchFloat64) {
  const nlohmann::json cases = ReadGoldenJson("tiny/cases.json").at("cases");
  const HarnessRun run = RunCases(cases, 1, dtype());
  ASSERT_EQ(run.outputs.size(), cases.size());
  ExpectLogitsNear(run, cases, ReadFloats(GoldenDataPath("tiny/last_logits_float64_reference.f32")),
                   "float64");
  const std::string llamacpp = "golden/tiny/last_logits_llamacpp_f32.f32";
  if (HasSharedData(llamacpp)) {
    ExpectLogitsNear(run, cases, ReadFloats(SharedDataPath(llamacpp)), "llamacpp");
  }
}

// The two ids with the largest logits, the best first.
std::vector<int32_t> BestTwo(const std::vector<float>& logits) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::partial_sort(ids.begin(), ids.begin() + 2, ids.end(), [&logits](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  return {ids[0], ids[1]};
}

// float32: all eight cases, token for token.
//
// bfloat16: llama.cpp with bfloat16 weights keeps to the float64 path in cases 0, 1, 2, 3, 4 and 7;
// the other two are not compared. (It leaves case 5 at token 26, where float64's two best logits
// are 0.0072 apart, and case 6 at token 6, where they are 0.045 apart.) Five of those six are held
// token for token. Case 4 has three close decisions in a row, of 0.0081, 0.0045 and 0.0078 at
// tokens 15 to 17, while bfloat16 moves a logit by up to 0.043 in llama.cpp and as much here: which
// way such a decision falls depends on where exactly activations are rounded. It may therefore fall
// for float64's second best token there, no earlier and for no other.
TEST_P(TinyGoldenTest, GreedyContinuationsMatchFloat64) {
  const nlohmann::json cases = ReadGoldenJson("tiny/cases.json").at("cases");
  const HarnessRun run = RunCases(cases, kNumGreedyTokens, dtype());
  ASSERT_EQ(run.outputs.size(), cases.size());
  constexpr size_t kCloseCase = 4;
  constexpr size_t kFirstCloseToken = 15;
  constexpr double kCloseMargin = 0.0082;
  for (size_t c = 0; c < cases.size(); ++c) {
    if (dtype() == DType::kBFloat16 && (c == 5 || c == 6)) continue;
    const auto expected = cases[c].at("greedy_f64").get<std::vector<int32_t>>();
    std::vector<int32_t> tokens;
    for (const SampledToken& token : run.outputs[c].tokens) tokens.push_back(token.token_id);
    if (dtype() == DType::kFloat32 || c != kCloseCase) {
      EXPECT_EQ(tokens, expected) << "case " << c;
      continue;
    }
    ASSERT_EQ(tokens.size(), expected.size());
    const size_t place = static_cast<size_t>(
        std::mismatch(tokens.begin(), tokens.end(), expected.begin()).first - tokens.begin());
    if (place == tokens.size()) continue;
    EXPECT_GE(place, kFirstCloseToken) << "case " << c;
    EXPECT_LE(cases[c].at("top1_top2_margin_f64").at(place), kCloseMargin) << "token " << place;
    // float32 is within 1e-4 of float64, and so knows its second best.
    const HarnessRun precise =
        RunCases(nlohmann::json::array({cases[c]}), kNumGreedyTokens, DType::kFloat32);
    ASSERT_EQ(precise.outputs.size(), 1U);
    const size_t position = cases[c].at("prompt").size() - 1 + place;
    EXPECT_EQ(BestTwo(precise.outputs[0].logits.at(static_cast<int32_t>(position))),
              (std::vector<int32_t>{expected[place], tokens[place]}))
        << "case " << c << ", token " << place;
  }
}

TEST_P(TinyGoldenTest, EveryRowChoosesTopKExpertsInEveryLayer) {
  const nlohmann::json cases = ReadGoldenJson("tiny/cases.json").at("cases");
  const HarnessRun run = RunCases(cases, 2, dtype());
  const ModelConfig config = TinyModel().config;
  ASSERT_EQ(static_cast<int64_t>(run.expert_counts.size()), config.num_layers * config.num_experts);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    int64_t choices = 0;
    for (int64_t expert = 0; expert < config.num_experts; ++expert) {
      choices += run.expert_counts[static_cast<size_t>(layer * config.num_experts + expert)];
    }
    EXPECT_EQ(choices, run.num_rows * config.top_k) << "layer " << layer;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, TinyGoldenTest,
                         testing::Combine(testing::ValuesIn(SupportedIsas()),
                                          testing::Values(DType::kFloat32, DType::kBFloat16)),
                         [](const auto& test) {
                           return IsaAndDTypeName(std::get<0>(test.param), std::get<1>(test.param));
                         });

}  // namespace
}  // namespace moed
