// The promise of the same bits: tokens and logprobs of a request do not depend on ranks, exchange,
// batch, chunks, threads or blocks, nor on preemption, on what it takes from a cache, or on being
// drawn from a prompt that is computed once.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "parallel/exchange_strategy.h"
#include "tests/golden/golden_model.h"
#include "tests/golden/same_output.h"
#include "tests/support/model_harness.h"

namespace moed {
namespace {

constexpr ExchangeStrategy kExact = ExchangeStrategy::kExact;
constexpr ExchangeStrategy kGather = ExchangeStrategy::kGather;

// Everything that must not matter. The rows below cover each pair of values of neighbouring columns
// as far as they go.
struct Layout {
  int num_ranks;
  ExchangeStrategy exchange;  // of the first step
  int num_threads;
  int32_t chunk_tokens;  // 0: whole prompts
  int64_t block_size;
  uint64_t block_order_seed;
  int home_stride;               // request i lives on rank i * stride
  int stagger;                   // request i joins in step i * stagger
  bool mixes_exchanges = false;  // every other step takes the other strategy
  uint64_t preemption_seed = 0;  // of the steps in which requests lose their cache; 0: none do
  bool shares_prefixes = false;
};

constexpr std::array kLayouts{
    Layout{1, kExact, 4, 3, 5, 0, 1, 2},
    Layout{1, kGather, 2, 0, 64, 3, 1, 0, false, 1},
    Layout{1, kExact, 3, 16, 4, 2, 1, 3, true, 2, true},
    Layout{2, kExact, 2, 16, 16, 1, 1, 1, false, 0, true},
    Layout{2, kGather, 4, 0, 3, 9, 1, 2, false, 3, true},
    Layout{3, kGather, 1, 1, 7, 0, 2, 0, false, 4},
    Layout{3, kExact, 4, 64, 5, 8, 1, 0},
    Layout{4, kGather, 4, 64, 1, 2, 1, 3, false, 5, true},
    Layout{4, kExact, 1, 0, 3, 4, 0, 0},  // all on rank 0: the others only join
    Layout{4, kExact, 2, 3, 2, 4, 0, 2, false, 6, true},
    Layout{5, kExact, 2, 16, 7, 3, 1, 2, /*mixes_exchanges=*/true},
    Layout{8, kExact, 4, 3, 16, 5, 3, 0, false, 7},
    Layout{8, kGather, 2, 16, 5, 6, 0, 1, false, 8, true},
    Layout{11, kExact, 2, 1, 64, 7, 2, 0},
    Layout{11, kGather, 1, 64, 7, 8, 1, 1},  // more ranks than experts: padding on most
};

// The plain loops are slow, and one thread whatever the layout: a few layouts hold them.
constexpr std::array kReferenceLayouts{
    Layout{3, kGather, 1, 3, 7, 0, 2, 0},
    Layout{5, kExact, 2, 16, 7, 3, 1, 2, /*mixes_exchanges=*/true, 9},
    Layout{8, kExact, 1, 0, 3, 4, 0, 1, false, 0, true},
};

// Under ThreadSanitizer: many ranks that take and lend memory.
constexpr std::array kThreadSanitizerLayouts{
    Layout{8, kExact, 2, 16, 16, 5, 3, 0},
    Layout{8, kGather, 2, 16, 5, 6, 3, 1, false, 10},
    Layout{3, kGather, 4, 64, 7, 2, 1, 2, /*mixes_exchanges=*/true, 0, true},
};

std::vector<Layout> LayoutsFor(CpuIsa isa) {
  if (kWatchesThreads) return {kThreadSanitizerLayouts.begin(), kThreadSanitizerLayouts.end()};
  if (isa == CpuIsa::kReference) return {kReferenceLayouts.begin(), kReferenceLayouts.end()};
  std::vector<Layout> layouts(kLayouts.begin(), kLayouts.end());
  if (!kWatchesMemory) return layouts;
  // Memory is the same in all: 1, 2, 3, 4 and 8 ranks.
  std::vector<Layout> some;
  for (size_t i = 0; i < layouts.size(); i += 3) some.push_back(layouts[i]);
  return some;
}

std::string Describe(const Layout& layout) {
  return absl::StrCat(
      layout.num_ranks, " ranks, ", ExchangeStrategyName(layout.exchange),
      layout.mixes_exchanges ? " and the other in turn, " : ", ", layout.num_threads,
      " threads, chunks of ", layout.chunk_tokens, ", blocks of ", layout.block_size, " in order ",
      layout.block_order_seed, ", home stride ", layout.home_stride, ", stagger ", layout.stagger,
      ", preemptions ", layout.preemption_seed, layout.shares_prefixes ? ", prefixes shared" : "");
}

constexpr int32_t kNumTokens = 8;
// A prompt of the list below, and the later ones that begin as it does.
constexpr int kDocument = 4;

// Prompts of lengths around tiles, chunks and blocks, greedy and drawn, with and without
// alternatives: whether a batch has any must not matter to the others in it.
std::vector<HarnessRequest> PlainRequests(int64_t vocab) {
  std::vector<HarnessRequest> requests;
  for (const int length : {1, 2, 17, 33, 70, 48}) {
    HarnessRequest& request = requests.emplace_back();
    const int which = static_cast<int>(requests.size());
    for (int i = 0; i < length; ++i) {
      request.prompt.push_back(static_cast<int32_t>((which * 7919 + i * i * 31 + i * 17) % vocab));
    }
    request.num_tokens = kNumTokens;
    request.init.sampling.seed = static_cast<uint64_t>(1000 + which);
    request.init.num_logprobs = which == 2 || which == 5 ? -1 : which == 4 ? 0 : 5;
    request.init.sampling.temperature = which % 2 == 0 ? 0.0F : 0.9F;
    request.init.sampling.top_k = which == 3 ? 50 : 0;
    request.init.sampling.top_p = which == 5 ? 0.9F : 1.0F;
  }
  return requests;
}

// Those, and neighbours with everything else that a request can ask for.
std::vector<HarnessRequest> Requests(int64_t vocab) {
  std::vector<HarnessRequest> requests = PlainRequests(vocab);
  const auto add = [&requests](std::vector<int32_t> prompt) -> HarnessRequest& {
    HarnessRequest& request = requests.emplace_back();
    request.prompt = std::move(prompt);
    request.num_tokens = kNumTokens;
    request.init.sampling.seed = 1000 + requests.size();
    return request;
  };
  const std::vector<int32_t> document = requests[kDocument].prompt;
  std::vector<int32_t> few_tokens;
  for (int32_t i = 0; i < 9; ++i) few_tokens.push_back(20 + 50 * i);

  // The beginning of another's prompt, n continuations.
  HarnessRequest& forked = add({document.begin(), document.begin() + 23});
  forked.prefix_of = kDocument;
  forked.prompt.push_back(5);
  forked.init.sampling.n = 3;
  forked.init.sampling.typical_p = 0.8F;
  forked.init.num_logprobs = 2;

  // What looks back at the tokens before, and what is forbidden.
  HarnessRequest& penalised = add(document);
  penalised.prefix_of = kDocument;
  penalised.init.sampling.n = 2;
  penalised.init.sampling.allowed_token_ids = few_tokens;
  penalised.init.sampling.presence_penalty = 0.7F;
  penalised.init.sampling.frequency_penalty = 0.4F;
  penalised.init.sampling.repetition_penalty = 1.2F;
  penalised.init.sampling.bad_words = {{20, 70}, {120}, {170, 220, 270}};
  penalised.init.sampling.logit_bias = {{20, 1.5F}, {70, 2.0F}, {320, -4.0F}};
  penalised.init.suppressed_token_ids = {70, 2};
  penalised.min_tokens = 3;

  // Another k; what is told of the prompt.
  HarnessRequest& one_expert = add({3, 5, 7, 11, 13, 17, 19, 23, 29});
  one_expert.init.experts_per_token = 1;
  one_expert.init.sampling.min_p = 0.02F;
  HarnessRequest& more_experts = add({document.begin() + 3, document.begin() + 25});
  more_experts.init.experts_per_token = 4;
  more_experts.init.num_prompt_logprobs = 3;
  more_experts.init.routed_experts = true;
  more_experts.init.sampling.top_k = 40;
  return requests;
}

struct Case {
  GoldenModel (*model)();
  const char* name;
};

class SameBitsTest : public testing::TestWithParam<std::tuple<Case, CpuIsa, DType>> {
 protected:
  HarnessRun RunLayout(const GoldenModel& model, const Layout& layout,
                       std::vector<HarnessRequest> requests) {
    HarnessOptions options = model.Options(std::get<1>(GetParam()), std::get<2>(GetParam()));
    options.num_ranks = layout.num_ranks;
    options.exchange = layout.exchange;
    options.mixes_exchanges = layout.mixes_exchanges;
    options.num_threads = layout.num_threads;
    options.block_size = layout.block_size;
    options.block_order_seed = layout.block_order_seed;
    options.num_kv_blocks = 3000 / layout.block_size + 64;
    options.max_sequences = 16;
    options.max_rows = 512;
    options.max_experts_per_token = 4;
    std::mt19937_64 random(layout.preemption_seed);
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].home_rank = static_cast<int>(i) * layout.home_stride;
      requests[i].first_step = static_cast<int>(i) * layout.stagger;
      requests[i].chunk_tokens = layout.chunk_tokens;
      if (!layout.shares_prefixes) requests[i].prefix_of = -1;
      if (layout.preemption_seed == 0) continue;
      for (int32_t tokens = 1; tokens < kNumTokens; ++tokens) {
        if (random() % 4 == 0) requests[i].preempted_after.push_back(tokens);
      }
    }
    auto harness = ModelHarness::Create(options);
    EXPECT_TRUE(harness.ok()) << harness.status();
    if (!harness.ok()) return {};
    auto run = (*harness)->Run(requests);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *std::move(run) : HarnessRun();
  }

  // What each request gives alone: its continuations one after the other, on one rank and one
  // thread, the prompt whole.
  std::vector<HarnessOutput> RunAlone(const GoldenModel& model,
                                      const std::vector<HarnessRequest>& requests) {
    HarnessOptions options = model.Options(std::get<1>(GetParam()), std::get<2>(GetParam()));
    options.num_kv_blocks = 16;
    options.max_sequences = 1;
    options.max_rows = 128;
    options.max_experts_per_token = 4;
    auto harness = ModelHarness::Create(options);
    EXPECT_TRUE(harness.ok()) << harness.status();
    std::vector<HarnessOutput> outputs;
    for (const HarnessRequest& request : requests) {
      for (int32_t choice = 0; choice < request.init.sampling.n; ++choice) {
        HarnessRequest alone = request;
        alone.prefix_of = -1;
        alone.init.sampling.n = 1;
        alone.init.choice_index = static_cast<uint32_t>(choice);
        auto run = (*harness)->Run({alone});
        EXPECT_TRUE(run.ok()) << run.status();
        if (!run.ok()) return {};
        if (choice == 0) {
          outputs.push_back(run->outputs[0]);
        } else {
          outputs.back().forks.push_back(run->outputs[0]);
        }
      }
    }
    return outputs;
  }

  // "" when equal to the bit, else the first difference.
  static std::string FirstDifference(const HarnessOutput& expected, const HarnessOutput& actual) {
    const auto compare = [](const std::vector<SampledToken>& of_expected,
                            const std::vector<SampledToken>& of_actual) -> std::string {
      if (of_expected.size() != of_actual.size()) {
        return absl::StrCat(of_actual.size(), " tokens for ", of_expected.size());
      }
      for (size_t i = 0; i < of_expected.size(); ++i) {
        const std::string difference = Difference(of_expected[i], of_actual[i]);
        if (!difference.empty()) return absl::StrCat("token ", i, ": ", difference);
      }
      return "";
    };
    std::string difference = compare(expected.tokens, actual.tokens);
    if (!difference.empty()) return difference;
    difference = compare(expected.prompt_logprobs, actual.prompt_logprobs);
    if (!difference.empty()) return absl::StrCat("prompt, ", difference);
    for (size_t i = 0; i < expected.forks.size(); ++i) {
      difference = compare(expected.forks[i].tokens, actual.forks.at(i).tokens);
      if (!difference.empty()) return absl::StrCat("continuation ", i + 1, ", ", difference);
    }
    return "";
  }
};

TEST_P(SameBitsTest, TokensAndLogprobsDoNotDependOnTheLayout) {
  const GoldenModel model = std::get<0>(GetParam()).model();
  ASSERT_NE(model.weights, nullptr);
  const std::vector<HarnessRequest> requests = Requests(model.config.vocab_size);
  const std::vector<HarnessOutput> expected = RunAlone(model, requests);
  ASSERT_EQ(expected.size(), requests.size());

  std::vector<int64_t> expected_counts;  // where every row is computed once
  int64_t num_cached_rows = 0;
  for (const Layout& layout : LayoutsFor(std::get<1>(GetParam()))) {
    const HarnessRun run = RunLayout(model, layout, requests);
    ASSERT_EQ(run.outputs.size(), requests.size()) << Describe(layout);
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(FirstDifference(expected[i], run.outputs[i]), "")
          << Describe(layout) << "; request " << i << " (prompt of " << requests[i].prompt.size()
          << ")";
      // Rows that are computed again are told again; those of the rest have the same choices.
      if (layout.preemption_seed != 0 || requests[i].init.sampling.n > 1) continue;
      EXPECT_EQ(run.outputs[i].routed_experts, expected[i].routed_experts) << Describe(layout);
    }
    num_cached_rows += run.num_cached_rows;
    if (layout.preemption_seed != 0 || layout.shares_prefixes) continue;
    if (expected_counts.empty()) expected_counts = run.expert_counts;
    EXPECT_EQ(run.expert_counts, expected_counts) << Describe(layout);
  }
  EXPECT_GT(num_cached_rows, 0);
}

constexpr Case kTiny{&TinyModel, "tiny"};
constexpr Case kDemo{&DemoModel, "demo"};
constexpr Case kDummy{&OddDummyModel, "dummy"};

INSTANTIATE_TEST_SUITE_P(Models, SameBitsTest,
                         testing::Combine(testing::Values(kTiny, kDemo, kDummy),
                                          testing::ValuesIn(SupportedIsas()),
                                          testing::Values(DType::kFloat32, DType::kBFloat16)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" +
                                  IsaAndDTypeName(std::get<1>(test.param), std::get<2>(test.param));
                         });

}  // namespace
}  // namespace moed
