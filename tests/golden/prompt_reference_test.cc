// Prompts with a k of their own each, with and without a capacity factor, against
// data/prompts.json: NumPy in float64, by prompt_reference.py.
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "nlohmann/json.hpp"
#include "parallel/exchange_strategy.h"
#include "tests/golden/golden_model.h"
#include "tests/support/model_harness.h"

namespace moed {
namespace {

constexpr double kTolerance = 1e-4;
// Two alternatives that are nearer may change places.
constexpr double kTie = 1e-3;

class PromptReferenceTest : public testing::TestWithParam<std::tuple<CpuIsa, int>> {
 protected:
  // The prompts of a step of the reference, whole, in one step on rank 0; the other ranks have only
  // experts.
  HarnessRun RunStep(const nlohmann::json& step, ExchangeStrategy exchange) {
    HarnessOptions options = TinyModel().Options(std::get<0>(GetParam()), DType::kFloat32);
    options.num_ranks = std::get<1>(GetParam());
    options.exchange = exchange;
    options.max_experts_per_token = static_cast<int32_t>(options.config.num_experts);
    options.capacity_factor = step.at("capacity_factor");
    std::vector<HarnessRequest> requests;
    for (const nlohmann::json& prompt : step.at("prompts")) {
      HarnessRequest& request = requests.emplace_back();
      request.prompt = prompt.at("tokens").get<std::vector<int32_t>>();
      request.init.experts_per_token = prompt.at("experts_per_token");
      request.init.num_prompt_logprobs = 5;
      request.init.routed_experts = true;
    }
    auto harness = ModelHarness::Create(options);
    EXPECT_TRUE(harness.ok()) << harness.status();
    if (!harness.ok()) return {};
    auto run = (*harness)->Run(requests);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *std::move(run) : HarnessRun();
  }

  static void ExpectNear(const SampledToken& actual, const nlohmann::json& expected,
                         const std::string& place) {
    EXPECT_LE(Distance(actual.logprob, expected.at("logprob")), kTolerance)
        << place << ": " << actual.logprob << " for " << expected.at("logprob");
    const auto ids = expected.at("top_ids").get<std::vector<int32_t>>();
    const auto logprobs = expected.at("top_logprobs").get<std::vector<double>>();
    ASSERT_EQ(actual.top_logprobs.size(), ids.size()) << place;
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_LE(Distance(actual.top_logprobs[i].second, logprobs[i]), kTolerance)
          << place << ", alternative " << i;
      const bool is_tie = (i > 0 && logprobs[i - 1] - logprobs[i] < kTie) ||
                          (i + 1 < ids.size() && logprobs[i] - logprobs[i + 1] < kTie);
      if (!is_tie && i + 1 < ids.size()) {
        EXPECT_EQ(actual.top_logprobs[i].first, ids[i]) << place << ", alternative " << i;
      }
    }
  }
};

TEST_P(PromptReferenceTest, LogprobsExpertsAndDroppedPairsMatchFloat64) {
  const nlohmann::json reference = ReadGoldenJson("prompts.json");
  for (const nlohmann::json& step : reference.at("steps")) {
    for (const ExchangeStrategy exchange : {ExchangeStrategy::kExact, ExchangeStrategy::kGather}) {
      const HarnessRun run = RunStep(step, exchange);
      EXPECT_EQ(run.num_steps, 1);
      ASSERT_EQ(run.outputs.size(), step.at("prompts").size());
      int64_t dropped_pairs = 0;
      for (size_t p = 0; p < run.outputs.size(); ++p) {
        const nlohmann::json& expected = step.at("prompts")[p];
        const HarnessOutput& output = run.outputs[p];
        const std::string place =
            absl::StrCat(ExchangeStrategyName(exchange), ", factor ",
                         step.at("capacity_factor").get<double>(), ", prompt ", p);
        ASSERT_EQ(output.prompt_logprobs.size(), expected.at("following").size()) << place;
        for (size_t i = 0; i < output.prompt_logprobs.size(); ++i) {
          EXPECT_EQ(output.prompt_logprobs[i].token_id, expected.at("tokens")[i + 1]) << place;
          ExpectNear(output.prompt_logprobs[i], expected.at("following")[i],
                     absl::StrCat(place, ", token ", i + 1));
        }
        std::vector<int16_t> experts;
        for (const nlohmann::json& choices : expected.at("routed_experts")) {
          for (const nlohmann::json& expert : choices) experts.push_back(expert);
        }
        EXPECT_EQ(output.routed_experts, experts) << place;
        EXPECT_EQ(output.dropped_pairs, expected.at("dropped_pairs")) << place;
        dropped_pairs += expected.at("dropped_pairs").get<int64_t>();
      }
      EXPECT_EQ(run.dropped_pairs, dropped_pairs);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, PromptReferenceTest,
                         testing::Combine(testing::ValuesIn(SupportedIsas()),
                                          testing::Values(1, 3)),
                         [](const auto& test) {
                           return absl::StrCat(CpuIsaName(std::get<0>(test.param)), "_",
                                               std::get<1>(test.param), "_ranks");
                         });

}  // namespace
}  // namespace moed
