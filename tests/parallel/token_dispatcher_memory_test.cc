// What a dispatcher allocates, whom its memory belongs to, and what a failed group leaves behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "kernels/core/status.h"
#include "parallel/token_dispatcher.h"
#include "tests/parallel/moe_layer.h"
#include "tests/parallel/rank_threads.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

constexpr DispatcherLimits kLimits{
    .max_rows = 4, .max_gather_rows = 2, .hidden = kHidden, .top_k = 2, .max_in_flight = 1};

static_assert(!std::is_copy_constructible_v<DispatchHandle>);
static_assert(std::is_nothrow_move_constructible_v<DispatchHandle>);

RankRows TwoRows() {
  return RankRows{ActMatrix(DType::kFloat32, 2, kHidden), {0, 5, 3, 2}, {1, 1, 1, 1}, 2, 2};
}

// Two ranks with their backends and dispatchers run `body`.
std::vector<absl::Status> RunTwoRanks(
    const DispatcherLimits& limits,
    const std::function<absl::Status(Communicator&, Backend&, TokenDispatcher&)>& body) {
  const auto group = MakeGroup(2);
  return RunRanks(*group, [&](Communicator& communicator) -> absl::Status {
    const ExpertPlacement placement = ExpertPlacement::Even(3, 8, 2);
    const std::unique_ptr<Backend> backend = MakeTestBackend(DType::kFloat32);
    MOED_ASSIGN_OR_RETURN(const std::unique_ptr<TokenDispatcher> dispatcher,
                          TokenDispatcher::Create(*backend, communicator, placement, limits));
    return body(communicator, *backend, *dispatcher);
  });
}

void ExpectAllOk(const std::vector<absl::Status>& results) {
  for (const absl::Status& status : results) EXPECT_TRUE(status.ok()) << status;
}

TEST(TokenDispatcherMemory, IsWhatExchangeBytesSaysAndStepsAddNothing) {
  for (const int max_in_flight : {1, 2}) {
    DispatcherLimits limits = kLimits;
    limits.max_in_flight = max_in_flight;
    const int64_t expected =
        TokenDispatcher::ExchangeBytes(ExpertPlacement::Even(3, 8, 2), limits, DType::kFloat32)
            .value();
    ExpectAllOk(RunTwoRanks(
        limits, [&](Communicator&, Backend& backend, TokenDispatcher& dispatcher) -> absl::Status {
          EXPECT_EQ(backend.allocated_bytes(MemoryKind::kExchange), expected);
          const std::unique_ptr<Stream> stream = backend.CreateStream();
          RankRows input = TwoRows();
          for (const auto strategy : {ExchangeStrategy::kExact, ExchangeStrategy::kGather}) {
            MOED_ASSIGN_OR_RETURN(const DispatchHandle handle,
                                  dispatcher.Dispatch(*stream, 0, 0, {strategy, 2},
                                                      input.rows.view(), input.ids_view()));
          }
          EXPECT_EQ(backend.allocated_bytes(MemoryKind::kExchange), expected);
          return absl::OkStatus();
        }));
  }
}

// 8 ranks of Mixtral 8x7B with 512 rows a step each, 32 in a gather step, bf16: all 4096 rows of
// the group on one rank, and their results, are 33,554,432 bytes each.
TEST(TokenDispatcherMemory, OfMixtralOnEightRanks) {
  const DispatcherLimits limits{.max_rows = 512, .max_gather_rows = 32, .hidden = 4096, .top_k = 2};
  const int64_t row_bytes = 4096 * 2;
  const int64_t arrived = 4096 * (row_bytes + 8);
  const int64_t results = 4096 * (row_bytes + 4 + 4);
  const int64_t sent = 1024 * (row_bytes + 8 + 4);
  const int64_t contributions = 1024 * row_bytes + 512 * 8;
  const int64_t small = 2 * 4 + 2 * 8 * 4;                     // offsets, counts
  const int64_t tables = 2 * 32 * 8 * 4 + 2 * 32 * 4 + 2 * 4;  // placement, constants
  EXPECT_EQ(
      TokenDispatcher::ExchangeBytes(ExpertPlacement::Even(32, 8, 8), limits, DType::kBFloat16)
          .value(),
      arrived + results + sent + contributions + small + tables);
}

TEST(TokenDispatcherMemory, LimitsOutOfRangeAreRefusedByName) {
  const ExpertPlacement placement = ExpertPlacement::Even(1, 8, 8);
  const auto refusal = [&](const DispatcherLimits& limits) {
    const auto bytes = TokenDispatcher::ExchangeBytes(placement, limits, DType::kFloat32);
    EXPECT_EQ(bytes.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(bytes.status().message());
  };
  EXPECT_THAT(refusal({.max_rows = 0, .hidden = 8, .top_k = 2}), HasSubstr("0 rows"));
  EXPECT_THAT(refusal({.max_rows = 1, .hidden = 0, .top_k = 2}), HasSubstr("hidden 0"));
  EXPECT_THAT(refusal({.max_rows = 1, .hidden = 8, .top_k = 9}), HasSubstr("top_k 9"));
  EXPECT_THAT(refusal({.max_rows = 1, .max_gather_rows = 2, .hidden = 8, .top_k = 2}),
              HasSubstr("max_gather_rows 2"));
  EXPECT_THAT(refusal({.max_rows = int64_t{1} << 28, .hidden = 8, .top_k = 2}),
              HasSubstr("32 bits"));
}

// A full step leaves ids behind; the next step's padding must not take them for its own.
TEST(TokenDispatcherMemory, PaddingNamesNoExpertWhateverTheBuffersHeldBefore) {
  ExpectAllOk(RunTwoRanks(
      kLimits, [](Communicator&, Backend& backend, TokenDispatcher& dispatcher) -> absl::Status {
        const std::unique_ptr<Stream> stream = backend.CreateStream();
        RankRows input = TwoRows();
        const auto num_pairs = [&](ExchangeStrategy strategy,
                                   int64_t num_tokens) -> absl::StatusOr<int32_t> {
          MOED_ASSIGN_OR_RETURN(const DispatchHandle handle,
                                dispatcher.Dispatch(*stream, 0, 0, {strategy, 2},
                                                    input.rows.view().Rows(0, num_tokens),
                                                    input.ids_view().Rows(0, num_tokens)));
          const ConstTensorView offsets = handle.expert_offsets();
          return offsets.data<int32_t>()[offsets.dim(0) - 1];
        };
        MOED_ASSIGN_OR_RETURN(const int32_t full, num_pairs(ExchangeStrategy::kExact, 2));
        EXPECT_EQ(full, 4);
        MOED_ASSIGN_OR_RETURN(const int32_t half, num_pairs(ExchangeStrategy::kGather, 1));
        EXPECT_EQ(half, 2);
        MOED_ASSIGN_OR_RETURN(const int32_t none, num_pairs(ExchangeStrategy::kGather, 0));
        EXPECT_EQ(none, 0);
        return absl::OkStatus();
      }));
}

TEST(DispatchHandle, ThatIsDroppedGivesItsMemoryBack) {
  ExpectAllOk(RunTwoRanks(
      kLimits, [](Communicator&, Backend& backend, TokenDispatcher& dispatcher) -> absl::Status {
        const std::unique_ptr<Stream> stream = backend.CreateStream();
        RankRows input = TwoRows();
        for (uint64_t step = 0; step < 5; ++step) {
          MOED_ASSIGN_OR_RETURN(DispatchHandle handle,
                                dispatcher.Dispatch(*stream, step, 0, {ExchangeStrategy::kExact, 0},
                                                    input.rows.view(), input.ids_view()));
          const DispatchHandle moved = std::move(handle);
        }
        return absl::OkStatus();
      }));
}

TEST(DispatchHandleDeathTest, OneMoreThanMayBeInFlightIsOurBug) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto group = MakeGroup(1);
  const std::unique_ptr<Communicator> communicator = group->MakeEnd(0);
  const ExpertPlacement placement = ExpertPlacement::Even(1, 8, 1);
  const std::unique_ptr<Backend> backend = MakeTestBackend(DType::kFloat32);
  const std::unique_ptr<Stream> stream = backend->CreateStream();
  DispatcherLimits limits = kLimits;
  limits.max_in_flight = 2;
  const auto dispatcher =
      TokenDispatcher::Create(*backend, *communicator, placement, limits).value();
  RankRows input = TwoRows();
  const auto dispatch = [&] {
    return dispatcher->Dispatch(*stream, 0, 0, {}, input.rows.view(), input.ids_view()).value();
  };
  const DispatchHandle first = dispatch();
  const DispatchHandle second = dispatch();
  EXPECT_DEATH(dispatch(), "more dispatches in flight than max_in_flight");
}

TEST(TokenDispatcherFailure, OfTheGroupEndsDispatchWithItsErrorAndGivesTheMemoryBack) {
  const auto results = RunTwoRanks(
      kLimits,
      [](Communicator& communicator, Backend& backend,
         TokenDispatcher& dispatcher) -> absl::Status {
        if (communicator.rank() == 1) {
          communicator.Abort(absl::InternalError("a worker threw"));
          return absl::OkStatus();
        }
        const std::unique_ptr<Stream> stream = backend.CreateStream();
        RankRows input = TwoRows();
        absl::Status status;
        for (const auto strategy :
             {ExchangeStrategy::kExact, ExchangeStrategy::kGather, ExchangeStrategy::kExact}) {
          status =
              dispatcher.Dispatch(*stream, 4, 2, {strategy, 2}, input.rows.view(), input.ids_view())
                  .status();
          EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
        }
        return status;
      });
  EXPECT_THAT(std::string(results[0].message()), HasSubstr("rank 1 ended the group"));
}

TEST(TokenDispatcherFailure, BetweenDispatchAndCombineEndsCombine) {
  const auto results = RunTwoRanks(
      kLimits,
      [](Communicator& communicator, Backend& backend,
         TokenDispatcher& dispatcher) -> absl::Status {
        const std::unique_ptr<Stream> stream = backend.CreateStream();
        RankRows input = TwoRows();
        MOED_ASSIGN_OR_RETURN(DispatchHandle handle,
                              dispatcher.Dispatch(*stream, 4, 2, {ExchangeStrategy::kGather, 2},
                                                  input.rows.view(), input.ids_view()));
        if (communicator.rank() == 1) {
          communicator.Abort(absl::InternalError("out of memory"));
          return absl::OkStatus();
        }
        std::vector<float> residual(static_cast<size_t>(2 * kHidden), 0.5F);
        const absl::Status status =
            dispatcher.Combine(*stream, std::move(handle), input.weights_view(),
                               TensorView(residual.data(), DType::kFloat32, {2, kHidden}));
        EXPECT_THAT(residual, ::testing::Each(0.5F));
        return status;
      });
  EXPECT_THAT(std::string(results[0].message()),
              HasSubstr("rank 1 ended the group after dispatch ids of layer 2, step 4: out of "
                        "memory"));
}

}  // namespace
}  // namespace moed
