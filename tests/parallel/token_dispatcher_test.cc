// One rank's plain loop against any number of ranks, bit for bit.
#include "parallel/token_dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "tests/parallel/moe_layer.h"
#include "tests/parallel/poisoning_backend.h"
#include "tests/parallel/rank_threads.h"

namespace moed {
namespace {

constexpr uint64_t kSeed = 7;
constexpr int64_t kMaxRows = 5;
constexpr int kNumLayers = 2;

// How many rows each rank has, and whom they choose.
enum class Load { kUneven, kFirstRankOnly, kLastRankOnly, kNobody, kFull };
enum class Choices { kRandom, kOneExpert, kSomeUnrouted };

struct Step {
  Load load;
  Choices choices;
  uint64_t number;
};

std::vector<Step> AllSteps() {
  std::vector<Step> steps;
  for (const Load load :
       {Load::kUneven, Load::kFirstRankOnly, Load::kLastRankOnly, Load::kNobody, Load::kFull}) {
    for (const Choices choices : {Choices::kRandom, Choices::kOneExpert, Choices::kSomeUnrouted}) {
      steps.push_back({load, choices, steps.size()});
    }
  }
  return steps;
}

int64_t NumRows(const Step& step, int rank, int num_ranks) {
  switch (step.load) {
    case Load::kUneven:
      return static_cast<int64_t>((static_cast<uint64_t>(rank) * 7 + step.number) % 4);
    case Load::kFirstRankOnly:
      return rank == 0 ? kMaxRows : 0;
    case Load::kLastRankOnly:
      return rank == num_ranks - 1 ? 3 : 0;
    case Load::kNobody:
      return 0;
    case Load::kFull:
      return kMaxRows;
  }
  return 0;
}

// Any rank can rebuild the rows of any other. A row without pairs holds NaN: it must stay unread.
RankRows MakeRows(const Step& step, int rank, int num_ranks, int num_experts, int64_t top_k,
                  DType act) {
  std::mt19937_64 random(kSeed + step.number * 100 + static_cast<uint64_t>(rank));
  std::normal_distribution<float> normal;
  const int64_t num_tokens = NumRows(step, rank, num_ranks);
  RankRows input{ActMatrix(act, num_tokens, kHidden), {}, {}, num_tokens, top_k};
  std::vector<int32_t> experts(static_cast<size_t>(num_experts));
  for (int64_t row = 0; row < num_tokens; ++row) {
    std::iota(experts.begin(), experts.end(), 0);
    if (step.choices == Choices::kOneExpert) {
      std::rotate(experts.begin(), experts.begin() + 3, experts.end());
    } else {
      std::shuffle(experts.begin(), experts.end(), random);
    }
    const bool is_unrouted = step.choices == Choices::kSomeUnrouted && row % 2 == 0;
    for (int64_t choice = 0; choice < top_k; ++choice) {
      const bool is_missing =
          is_unrouted || (step.choices == Choices::kSomeUnrouted && random() % 3 == 0);
      input.ids.push_back(is_missing ? -1 : experts[static_cast<size_t>(choice)]);
      input.weights.push_back(std::abs(normal(random)));
    }
    for (int64_t column = 0; column < kHidden; ++column) {
      input.rows.Set(row, column,
                     is_unrouted ? std::numeric_limits<float>::quiet_NaN() : normal(random));
    }
  }
  return input;
}

std::vector<const ExpertWeight*> LocalExperts(const Experts& experts,
                                              const ExpertPlacement& placement, int rank,
                                              int layer) {
  std::vector<const ExpertWeight*> local;
  for (const int32_t expert : placement.ExpertsOn(rank, layer)) {
    local.push_back(experts.weights[static_cast<size_t>(expert)].get());
  }
  return local;
}

void RunExperts(Backend& backend, Stream& stream, const DispatchHandle& handle,
                const std::vector<const ExpertWeight*>& local) {
  backend.ExpertFfn(stream, ExpertFfnArgs{.x = handle.rows(),
                                          .experts = local,
                                          .expert_offsets = handle.expert_offsets(),
                                          .row_index = handle.row_index(),
                                          .out_index = handle.out_index(),
                                          .out = handle.expert_output()});
}

TensorView ResidualView(std::vector<float>& residual) {
  return TensorView(residual.data(), DType::kFloat32,
                    {static_cast<int64_t>(residual.size()) / kHidden, kHidden});
}

void ExpectSameBits(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
        << "row " << i / kHidden << ", element " << i % kHidden << ": " << actual[i] << " for "
        << expected[i] << ", seed " << kSeed;
  }
}

ExchangePlan PlanFor(ExchangeStrategy strategy, const Step& step, int num_ranks) {
  ExchangePlan plan{strategy, 0};
  for (int rank = 0; rank < num_ranks; ++rank) {
    plan.padded_rows = std::max(plan.padded_rows, NumRows(step, rank, num_ranks));
  }
  if (step.number % 2 == 0) plan.padded_rows = kMaxRows;  // more padding than needed
  return plan;
}

DispatcherLimits Limits(int64_t top_k, int max_in_flight = 1) {
  return DispatcherLimits{.max_rows = kMaxRows,
                          .max_gather_rows = kMaxRows,
                          .hidden = kHidden,
                          .top_k = top_k,
                          .max_in_flight = max_in_flight};
}

using Shape = std::tuple<int, DType>;  // ranks, activations

class SameBits : public ::testing::TestWithParam<Shape> {};

absl::Status RunAllSteps(Communicator& communicator, DType act, int num_experts, int64_t top_k,
                         const Experts& experts) {
  const int rank = communicator.rank();
  const int num_ranks = communicator.num_ranks();
  const ExpertPlacement placement = ExpertPlacement::Even(kNumLayers, num_experts, num_ranks);
  PoisoningBackend backend(MakeTestBackend(act));
  const std::unique_ptr<Stream> stream = backend.CreateStream();
  MOED_ASSIGN_OR_RETURN(const std::unique_ptr<TokenDispatcher> dispatcher,
                        TokenDispatcher::Create(backend, communicator, placement, Limits(top_k)));
  for (const Step& step : AllSteps()) {
    RankRows input = MakeRows(step, rank, num_ranks, num_experts, top_k, act);
    const std::vector<float> expected = PlainMoeLayer(backend, experts, input);
    for (const auto strategy : {ExchangeStrategy::kExact, ExchangeStrategy::kGather}) {
      const int layer = static_cast<int>(step.number) % kNumLayers;
      SCOPED_TRACE(absl::StrCat(ExchangeStrategyName(strategy), ", step ", step.number, ", rank ",
                                rank, " of ", num_ranks, ", ", num_experts, " experts, top_k ",
                                top_k));
      MOED_ASSIGN_OR_RETURN(
          DispatchHandle handle,
          dispatcher->Dispatch(*stream, step.number, layer, PlanFor(strategy, step, num_ranks),
                               input.rows.view(), input.ids_view()));
      RunExperts(backend, *stream, handle, LocalExperts(experts, placement, rank, layer));
      std::vector<float> residual(expected.size(), 0.0F);
      MOED_RETURN_IF_ERROR(dispatcher->Combine(*stream, std::move(handle), input.weights_view(),
                                               ResidualView(residual)));
      ExpectSameBits(residual, expected);
    }
  }
  return absl::OkStatus();
}

TEST_P(SameBits, AsOneRanksPlainLoop) {
  const auto [num_ranks, act] = GetParam();
  const std::unique_ptr<Backend> packer = MakeTestBackend(act);
  for (const int num_experts : {6, 8}) {
    const Experts experts = Experts::Make(*packer, num_experts, kSeed);
    for (const int64_t top_k : {1, 2, 3}) {
      const auto group = MakeGroup(num_ranks);
      const auto results = RunRanks(*group, [&, act = act](Communicator& communicator) {
        return RunAllSteps(communicator, act, num_experts, top_k, experts);
      });
      for (const absl::Status& status : results) EXPECT_TRUE(status.ok()) << status;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, SameBits,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 8, 11),
                                            ::testing::Values(DType::kFloat32, DType::kBFloat16)),
                         [](const ::testing::TestParamInfo<Shape>& shape) {
                           return absl::StrCat(std::get<0>(shape.param), "ranks_",
                                               DTypeName(std::get<1>(shape.param)));
                         });

class TwoInFlight : public ::testing::TestWithParam<ExchangeStrategy> {};

TEST_P(TwoInFlight, DoNotDisturbEachOther) {
  const std::unique_ptr<Backend> packer = MakeTestBackend(DType::kFloat32);
  const Experts experts = Experts::Make(*packer, 8, kSeed);
  const auto group = MakeGroup(4);
  const auto results = RunRanks(*group, [&](Communicator& communicator) -> absl::Status {
    const int rank = communicator.rank();
    const ExpertPlacement placement = ExpertPlacement::Even(kNumLayers, 8, 4);
    PoisoningBackend backend(MakeTestBackend(DType::kFloat32));
    const std::unique_ptr<Stream> stream = backend.CreateStream();
    MOED_ASSIGN_OR_RETURN(const std::unique_ptr<TokenDispatcher> dispatcher,
                          TokenDispatcher::Create(backend, communicator, placement, Limits(2, 2)));
    std::vector<RankRows> inputs;
    std::vector<DispatchHandle> handles;
    for (const uint64_t number : {0, 12}) {
      const Step step{number == 0 ? Load::kUneven : Load::kFull, Choices::kRandom, number};
      inputs.push_back(MakeRows(step, rank, 4, 8, 2, DType::kFloat32));
      MOED_ASSIGN_OR_RETURN(
          DispatchHandle handle,
          dispatcher->Dispatch(*stream, number, 1, PlanFor(GetParam(), step, 4),
                               inputs.back().rows.view(), inputs.back().ids_view()));
      handles.push_back(std::move(handle));
    }
    for (const DispatchHandle& handle : handles) {
      RunExperts(backend, *stream, handle, LocalExperts(experts, placement, rank, 1));
    }
    for (size_t i = 0; i < handles.size(); ++i) {
      const std::vector<float> expected = PlainMoeLayer(backend, experts, inputs[i]);
      std::vector<float> residual(expected.size(), 0.0F);
      MOED_RETURN_IF_ERROR(dispatcher->Combine(*stream, std::move(handles[i]),
                                               inputs[i].weights_view(), ResidualView(residual)));
      ExpectSameBits(residual, expected);
    }
    return absl::OkStatus();
  });
  for (const absl::Status& status : results) EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Strategies, TwoInFlight,
                         ::testing::Values(ExchangeStrategy::kExact, ExchangeStrategy::kGather),
                         [](const ::testing::TestParamInfo<ExchangeStrategy>& strategy) {
                           return std::string(ExchangeStrategyName(strategy.param));
                         });

}  // namespace
}  // namespace moed
