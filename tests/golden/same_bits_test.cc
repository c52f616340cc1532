// The promise of the same bits: tokens and logprobs of a request do not depend on ranks, exchange,
// batch, chunks, threads or blocks.
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "parallel/exchange_strategy.h"
#include "tests/golden/golden_model.h"
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
};

constexpr std::array kLayouts{
    Layout{1, kExact, 4, 3, 5, 0, 1, 2},
    Layout{1, kGather, 2, 0, 64, 3, 1, 0},
    Layout{2, kExact, 2, 16, 16, 1, 1, 1},
    Layout{2, kGather, 4, 0, 3, 9, 1, 2},
    Layout{3, kGather, 1, 1, 7, 0, 2, 0},
    Layout{3, kExact, 4, 64, 5, 8, 1, 0},
    Layout{4, kGather, 4, 64, 1, 2, 1, 3},
    Layout{4, kExact, 1, 0, 3, 4, 0, 0},  // all on rank 0: the others only join
    Layout{5, kExact, 2, 16, 7, 3, 1, 2, /*mixes_exchanges=*/true},
    Layout{8, kExact, 4, 3, 16, 5, 3, 0},
    Layout{8, kGather, 2, 16, 5, 6, 0, 1},
    Layout{11, kExact, 2, 1, 64, 7, 2, 0},
    Layout{11, kGather, 1, 64, 7, 8, 1, 1},  // more ranks than experts: padding on most
};

// The plain loops are slow, and one thread whatever the layout: a few layouts hold them.
constexpr std::array kReferenceLayouts{
    Layout{3, kGather, 1, 1, 7, 0, 2, 0},
    Layout{5, kExact, 2, 16, 7, 3, 1, 2, /*mixes_exchanges=*/true},
    Layout{8, kExact, 1, 0, 3, 4, 0, 0},
};

// Under ThreadSanitizer: many ranks that take and lend memory.
constexpr std::array kThreadSanitizerLayouts{
    Layout{8, kExact, 2, 16, 16, 5, 3, 0},
    Layout{8, kGather, 2, 16, 5, 6, 3, 1},
    Layout{3, kGather, 4, 64, 7, 2, 1, 2, /*mixes_exchanges=*/true},
};

std::vector<Layout> LayoutsFor(CpuIsa isa) {
  if (kWatchesThreads) return {kThreadSanitizerLayouts.begin(), kThreadSanitizerLayouts.end()};
  if (isa == CpuIsa::kReference) return {kReferenceLayouts.begin(), kReferenceLayouts.end()};
  return {kLayouts.begin(), kLayouts.end()};
}

std::string Describe(const Layout& layout) {
  return absl::StrCat(layout.num_ranks, " ranks, ", ExchangeStrategyName(layout.exchange),
                      layout.mixes_exchanges ? " and the other in turn, " : ", ",
                      layout.num_threads, " threads, chunks of ", layout.chunk_tokens,
                      ", blocks of ", layout.block_size, " in order ", layout.block_order_seed,
                      ", home stride ", layout.home_stride, ", stagger ", layout.stagger);
}

// Prompts of lengths around tiles, chunks and blocks, greedy and drawn, with and without
// alternatives: whether a batch has any must not matter to the others in it.
std::vector<HarnessRequest> Requests(int64_t vocab) {
  std::vector<HarnessRequest> requests;
  for (const int length : {1, 2, 17, 33, 70, 48}) {
    HarnessRequest& request = requests.emplace_back();
    const int which = static_cast<int>(requests.size());
    for (int i = 0; i < length; ++i) {
      request.prompt.push_back(static_cast<int32_t>((which * 7919 + i * i * 31 + i * 17) % vocab));
    }
    request.num_tokens = 8;
    request.init.sampling.seed = static_cast<uint64_t>(1000 + which);
    request.init.num_logprobs = which == 2 || which == 5 ? -1 : which == 4 ? 0 : 5;
    request.init.sampling.temperature = which % 2 == 0 ? 0.0F : 0.9F;
    request.init.sampling.top_k = which == 3 ? 50 : 0;
    request.init.sampling.top_p = which == 5 ? 0.9F : 1.0F;
  }
  return requests;
}

// "" when equal to the bit, else the first difference.
std::string Difference(const SampledToken& a, const SampledToken& b) {
  const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };
  if (a.token_id != b.token_id) return absl::StrCat("token ", b.token_id, " for ", a.token_id);
  if (bits(a.logprob) != bits(b.logprob)) {
    return absl::StrCat("logprob ", absl::Hex(bits(b.logprob)), " (", b.logprob, ") for ",
                        absl::Hex(bits(a.logprob)), " (", a.logprob, ")");
  }
  if (a.top_logprobs.size() != b.top_logprobs.size()) return "another number of alternatives";
  for (size_t i = 0; i < a.top_logprobs.size(); ++i) {
    if (a.top_logprobs[i].first != b.top_logprobs[i].first ||
        bits(a.top_logprobs[i].second) != bits(b.top_logprobs[i].second)) {
      return absl::StrCat("alternative ", i, ": ", b.top_logprobs[i].first, " at ",
                          b.top_logprobs[i].second, " for ", a.top_logprobs[i].first, " at ",
                          a.top_logprobs[i].second);
    }
  }
  return "";
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
    options.num_kv_blocks = 512 / layout.block_size + 8;
    options.max_sequences = 6;
    options.max_rows = 256;
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].home_rank = static_cast<int>(i) * layout.home_stride;
      requests[i].first_step = static_cast<int>(i) * layout.stagger;
      requests[i].chunk_tokens = layout.chunk_tokens;
    }
    auto harness = ModelHarness::Create(options);
    EXPECT_TRUE(harness.ok()) << harness.status();
    if (!harness.ok()) return {};
    auto run = (*harness)->Run(requests);
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? *std::move(run) : HarnessRun();
  }

  // Each request alone, one after the other, on one rank and one thread, its prompt whole.
  std::vector<HarnessOutput> RunAlone(const GoldenModel& model,
                                      const std::vector<HarnessRequest>& requests,
                                      std::vector<int64_t>& expert_counts) {
    HarnessOptions options = model.Options(std::get<1>(GetParam()), std::get<2>(GetParam()));
    options.num_kv_blocks = 16;
    options.max_sequences = 1;
    options.max_rows = 128;
    auto harness = ModelHarness::Create(options);
    EXPECT_TRUE(harness.ok()) << harness.status();
    std::vector<HarnessOutput> outputs;
    for (const HarnessRequest& request : requests) {
      auto run = (*harness)->Run({request});
      EXPECT_TRUE(run.ok()) << run.status();
      if (!run.ok()) return {};
      outputs.push_back(run->outputs[0]);
      expert_counts.resize(run->expert_counts.size());
      for (size_t i = 0; i < expert_counts.size(); ++i) expert_counts[i] += run->expert_counts[i];
    }
    return outputs;
  }
};

TEST_P(SameBitsTest, TokensAndLogprobsDoNotDependOnTheLayout) {
  const GoldenModel model = std::get<0>(GetParam()).model();
  ASSERT_NE(model.weights, nullptr);
  const std::vector<HarnessRequest> requests = Requests(model.config.vocab_size);
  std::vector<int64_t> expected_counts;
  const std::vector<HarnessOutput> expected = RunAlone(model, requests, expected_counts);
  ASSERT_EQ(expected.size(), requests.size());

  for (const Layout& layout : LayoutsFor(std::get<1>(GetParam()))) {
    const HarnessRun run = RunLayout(model, layout, requests);
    ASSERT_EQ(run.outputs.size(), requests.size()) << Describe(layout);
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(run.outputs[i].tokens.size(), expected[i].tokens.size());
      for (size_t t = 0; t < expected[i].tokens.size(); ++t) {
        const std::string difference = Difference(expected[i].tokens[t], run.outputs[i].tokens[t]);
        ASSERT_EQ(difference, "") << Describe(layout) << "; first difference in request " << i
                                  << " (prompt of " << requests[i].prompt.size() << "), token "
                                  << t;
      }
    }
    EXPECT_EQ(run.expert_counts, expected_counts) << Describe(layout);
  }
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
