#include "parallel/emulated_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "parallel/token_dispatcher.h"
#include "tests/parallel/moe_layer.h"

namespace moed {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using Numbers = std::vector<int64_t>;

class EmulatedCommunicatorTest : public testing::Test {
 protected:
  static constexpr int kRank = 1;
  static constexpr int kNumRanks = 4;
  static constexpr CollectiveTag kTag{0, 0, "test"};

  static ConstTensorView View(const Numbers& numbers) {
    return ConstTensorView(numbers.data(), DType::kInt64, {static_cast<int64_t>(numbers.size())});
  }
  static TensorView View(Numbers& numbers) {
    return TensorView(numbers.data(), DType::kInt64, {static_cast<int64_t>(numbers.size())});
  }

  const std::unique_ptr<Backend> backend_ = MakeTestBackend(DType::kFloat32);
  const std::unique_ptr<Stream> stream_ = backend_->CreateStream();
  EmulatedCommunicator end_{*backend_, kRank, kNumRanks};
};

TEST_F(EmulatedCommunicatorTest, TellsWhoItIs) {
  EXPECT_EQ(end_.rank(), 1);
  EXPECT_EQ(end_.num_ranks(), 4);
}

TEST_F(EmulatedCommunicatorTest, GathersItsOwnRowsFromEveryRank) {
  const Numbers send = {7, 8};
  Numbers recv(8, -1);
  ASSERT_TRUE(end_.AllGather(*stream_, kTag, View(send), View(recv)).ok());
  EXPECT_THAT(recv, ElementsAre(7, 8, 7, 8, 7, 8, 7, 8));
  EXPECT_EQ(end_.stats().bytes_sent, 3 * 16);  // to three others
  EXPECT_EQ(end_.stats().bytes_received, 3 * 16);
  EXPECT_EQ(end_.stats().wait_seconds, 0);
}

TEST_F(EmulatedCommunicatorTest, GetsItsOwnPieceFromEveryRank) {
  const Numbers send = {0, 1, 10, 11, 20, 21, 30, 31};
  Numbers recv(8, -1);
  ASSERT_TRUE(end_.AllToAll(*stream_, kTag, View(send), View(recv)).ok());
  EXPECT_THAT(recv, ElementsAre(10, 11, 10, 11, 10, 11, 10, 11));
  EXPECT_EQ(end_.stats().bytes_sent, 6 * 8);
}

TEST_F(EmulatedCommunicatorTest, EveryRankTellsItTheCountsThatItTellsItself) {
  const Numbers send = {1, 2, 30, 40, 5, 6, 7, 8};
  Numbers recv(8, -1);
  ASSERT_TRUE(end_.ExchangeCounts(*stream_, kTag, /*width=*/2, send, absl::MakeSpan(recv)).ok());
  EXPECT_THAT(recv, ElementsAre(30, 40, 30, 40, 30, 40, 30, 40));
}

TEST_F(EmulatedCommunicatorTest, RowsOfItsOwnComeAsOftenAsTheCountsSay) {
  const Numbers send = {0, 10, 11, 20};  // one row to rank 0, two to itself, one to rank 2
  Numbers recv(8, -1);
  ASSERT_TRUE(
      end_.AllToAllV(*stream_, kTag, View(send), {1, 2, 1, 0}, View(recv), {2, 2, 0, 3}).ok());
  EXPECT_THAT(recv, ElementsAre(10, 11, 10, 11, 10, 11, 10, -1));
  EXPECT_EQ(end_.stats().bytes_sent, 2 * 8);  // what went to itself is not counted
  EXPECT_EQ(end_.stats().bytes_received, 5 * 8);
}

TEST_F(EmulatedCommunicatorTest, ARankThatSendsItselfNothingStillGetsRows) {
  const Numbers send = {5, 6};
  Numbers recv(4, -1);
  ASSERT_TRUE(
      end_.AllToAllV(*stream_, kTag, View(send), {1, 0, 1, 0}, View(recv), {0, 0, 3, 1}).ok());
  EXPECT_THAT(recv, ElementsAre(5, 6, 5, 5));
}

TEST_F(EmulatedCommunicatorTest, WhatIsSentCountsWhereNothingComes) {
  const Numbers send = {5, 6};
  Numbers recv;
  ASSERT_TRUE(
      end_.AllToAllV(*stream_, kTag, View(send), {1, 0, 1, 0}, View(recv), {0, 0, 0, 0}).ok());
  EXPECT_EQ(end_.stats().bytes_sent, 2 * 8);
  EXPECT_EQ(end_.stats().bytes_received, 0);
}

TEST_F(EmulatedCommunicatorTest, WithNothingToSendWhatIsThereStays) {
  const Numbers send;
  Numbers recv(3, 9);
  ASSERT_TRUE(
      end_.AllToAllV(*stream_, kTag, View(send), {0, 0, 0, 0}, View(recv), {0, 0, 2, 1}).ok());
  EXPECT_THAT(recv, Each(9));
}

TEST_F(EmulatedCommunicatorTest, NothingEndsIt) {
  end_.Abort(absl::UnavailableError("over"));
  Numbers recv(4);
  EXPECT_TRUE(end_.AllGather(*stream_, kTag, View(Numbers{3}), View(recv)).ok());
  EXPECT_THAT(recv, Each(3));
}

// A rank of eight with one expert a layer, as a step drives it.
class EmulatedDispatchTest : public testing::TestWithParam<ExchangeStrategy> {
 protected:
  static constexpr int kRank = 3;
  static constexpr int kNumRanks = 8;
  static constexpr int64_t kNumRows = 6;

  static RankRows MakeRows(std::vector<int32_t> ids) {
    std::mt19937_64 random(11);
    std::normal_distribution<float> normal;
    RankRows input{ActMatrix(DType::kFloat32, kNumRows, kHidden), std::move(ids), {}, kNumRows, 2};
    for (int64_t row = 0; row < kNumRows; ++row) {
      for (int64_t column = 0; column < kHidden; ++column) {
        input.rows.Set(row, column, normal(random));
      }
    }
    input.weights.assign(static_cast<size_t>(2 * kNumRows), 0.5F);
    return input;
  }
};

TEST_P(EmulatedDispatchTest, ItsExpertsComputeForEveryRankWhatTheyWouldForItsOwnRows) {
  const std::unique_ptr<Backend> backend = MakeTestBackend(DType::kFloat32);
  const std::unique_ptr<Stream> stream = backend->CreateStream();
  const Experts experts = Experts::Make(*backend, kNumRanks, 7);
  const ExpertPlacement placement = ExpertPlacement::Even(1, kNumRanks, kNumRanks);
  EmulatedCommunicator end(*backend, kRank, kNumRanks);
  auto dispatcher = TokenDispatcher::Create(
      *backend, end, placement,
      {.max_rows = kNumRows, .max_gather_rows = kNumRows, .hidden = kHidden, .top_k = 2});
  ASSERT_TRUE(dispatcher.ok()) << dispatcher.status();
  // Three pairs are this rank's; of row 5 both choices are dropped or its own.
  RankRows input = MakeRows({0, 1, 3, 4, 5, 3, 6, 7, 2, 0, 3, -1});
  auto handle = (*dispatcher)
                    ->Dispatch(*stream, /*step=*/0, /*layer=*/0, {GetParam(), kNumRows},
                               input.rows.view(), input.ids_view());
  ASSERT_TRUE(handle.ok()) << handle.status();
  const int32_t* offsets = handle->expert_offsets().data<int32_t>();
  ASSERT_EQ(handle->expert_offsets().dim(0), 2);  // of one expert
  EXPECT_EQ(offsets[0], 0);
  EXPECT_EQ(offsets[1], 3 * kNumRanks);

  const ExpertWeight* local = experts.weights[kRank].get();
  backend->ExpertFfn(*stream, ExpertFfnArgs{.x = handle->rows(),
                                            .experts = absl::MakeConstSpan(&local, 1),
                                            .expert_offsets = handle->expert_offsets(),
                                            .row_index = handle->row_index(),
                                            .out_index = handle->out_index(),
                                            .out = handle->expert_output()});
  std::vector<float> residual(static_cast<size_t>(kNumRows * kHidden));
  ASSERT_TRUE((*dispatcher)
                  ->Combine(*stream, *std::move(handle), input.weights_view(),
                            TensorView(residual.data(), DType::kFloat32, {kNumRows, kHidden}))
                  .ok());
  // A row that no other rank has a part in gets what a group would give it.
  const std::vector<float> expected = PlainMoeLayer(*backend, experts, input);
  for (int64_t i = 5 * kHidden; i < 6 * kHidden; ++i) {
    const auto at = static_cast<size_t>(i);
    EXPECT_EQ(std::bit_cast<uint32_t>(residual[at]), std::bit_cast<uint32_t>(expected[at])) << i;
  }
  EXPECT_GT(end.stats().bytes_sent, 0);
}

INSTANTIATE_TEST_SUITE_P(Strategies, EmulatedDispatchTest,
                         testing::Values(ExchangeStrategy::kExact, ExchangeStrategy::kGather),
                         [](const auto& test) {
                           return std::string(ExchangeStrategyName(test.param));
                         });

}  // namespace
}  // namespace moed
