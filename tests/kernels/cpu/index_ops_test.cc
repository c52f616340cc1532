// CountChoices, PlanSend, IndexStaticSlots and GroupByExpert, against what their contracts say
// word by word.
#include <algorithm>
#include <random>

#include "tests/kernels/cpu/kernel_test.h"

namespace moed {
namespace {

class IndexOpsTest : public testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = MakeTestBackend({Kernels::kPortable, DType::kFloat32});
  std::unique_ptr<Stream> stream_ = backend_->CreateStream();
};

// Distinct experts a row; every fifth choice is no pair.
std::vector<int32_t> RandomChoices(int num_tokens, int top_k, int num_experts, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<int32_t> experts;
  for (int32_t e = 0; e < num_experts; ++e) experts.push_back(e);
  std::vector<int32_t> choices;
  for (int t = 0; t < num_tokens; ++t) {
    std::shuffle(experts.begin(), experts.end(), engine);
    for (int c = 0; c < top_k; ++c) {
      choices.push_back(engine() % 5 == 0 ? -1 : experts[static_cast<size_t>(c)]);
    }
  }
  return choices;
}

TEST_F(IndexOpsTest, CountChoicesAddsToTheCounts) {
  const Tensor ids = Tensor::Ints({3, 2}, {2, 0, -1, 2, 2, 1});
  std::vector<int64_t> counts = {10, 0, 0, 5};
  backend_->CountChoices(*stream_, {ids, TensorView(counts.data(), DType::kInt64, {4})});
  EXPECT_EQ(counts, (std::vector<int64_t>{11, 1, 3, 5}));
}

TEST_F(IndexOpsTest, PlanSendOfAWorkedExample) {
  // Experts 0 and 1 on rank 0, 2 and 3 on rank 1; rank 2 has none.
  const Tensor ids = Tensor::Ints({4, 2}, {0, 1, 3, 0, -1, 2, -1, -1});
  const Tensor ranks = Tensor::Ints({4}, {0, 0, 1, 1});
  Tensor rows(DType::kInt32, {8});
  Tensor sends(DType::kInt32, {3});
  Tensor replies(DType::kInt32, {3});
  Tensor places(DType::kInt32, {4, 2});
  backend_->PlanSend(*stream_,
                     {ids, ranks, rows.view(), sends.view(), replies.view(), places.view()});
  EXPECT_EQ(sends.ints(), (std::vector<int32_t>{2, 2, 0}));
  EXPECT_EQ(replies.ints(), (std::vector<int32_t>{3, 2, 0}));
  EXPECT_EQ(places.ints(), (std::vector<int32_t>{0, 1, 3, 2, -1, 4, -1, -1}));
  std::vector<int32_t> sent = rows.ints();
  sent.resize(4);
  EXPECT_EQ(sent, (std::vector<int32_t>{0, 1, 1, 2}));
}

TEST_F(IndexOpsTest, PlanSendMatchesItsContractOnRandomRouting) {
  for (const int num_ranks : {1, 2, 3, 8, 11}) {
    for (const int num_tokens : {0, 1, 40}) {
      const int top_k = 3;
      const int num_experts = 8;
      const std::vector<int32_t> choices = RandomChoices(num_tokens, top_k, num_experts, 9);
      std::vector<int32_t> rank_of;
      for (int32_t e = 0; e < num_experts; ++e) rank_of.push_back(e * num_ranks / num_experts);
      std::vector<int32_t> want_rows;
      std::vector<int32_t> want_sends(static_cast<size_t>(num_ranks));
      std::vector<int32_t> want_replies(static_cast<size_t>(num_ranks));
      std::vector<int32_t> want_places(choices.size(), -1);
      int32_t place = 0;
      for (int32_t p = 0; p < num_ranks; ++p) {
        for (int32_t t = 0; t < num_tokens; ++t) {
          bool sent = false;
          for (int c = 0; c < top_k; ++c) {
            const auto pair = static_cast<size_t>(t * top_k + c);
            if (choices[pair] < 0 || rank_of[static_cast<size_t>(choices[pair])] != p) continue;
            if (!sent) {
              want_rows.push_back(t);
              ++want_sends[static_cast<size_t>(p)];
            }
            sent = true;
            ++want_replies[static_cast<size_t>(p)];
            want_places[pair] = place++;
          }
        }
      }
      const Tensor ids = Tensor::Ints({num_tokens, top_k}, choices);
      const Tensor ranks = Tensor::Ints({num_experts}, rank_of);
      Tensor rows(DType::kInt32, {num_tokens * std::min(top_k, num_ranks)});
      Tensor sends(DType::kInt32, {num_ranks});
      Tensor replies(DType::kInt32, {num_ranks});
      Tensor places(DType::kInt32, {num_tokens, top_k});
      backend_->PlanSend(*stream_,
                         {ids, ranks, rows.view(), sends.view(), replies.view(), places.view()});
      std::vector<int32_t> got_rows = rows.ints();
      got_rows.resize(want_rows.size());
      EXPECT_EQ(got_rows, want_rows) << num_ranks << " ranks";
      EXPECT_EQ(sends.ints(), want_sends);
      EXPECT_EQ(replies.ints(), want_replies);
      EXPECT_EQ(places.ints(), want_places);
    }
  }
}

TEST_F(IndexOpsTest, StaticSlotsFollowRankRowAndChoice) {
  const Tensor ids = Tensor::Ints({2, 3}, {3, 0, 2, 1, -1, 0});
  const Tensor ranks = Tensor::Ints({4}, {0, 0, 1, 1});
  Tensor places(DType::kInt32, {2, 3});
  backend_->IndexStaticSlots(*stream_, {ids, ranks, 5, 2, places.view()});
  // (rank * 5 + row) * 2 + place among the row's choices there
  EXPECT_EQ(places.ints(), (std::vector<int32_t>{10, 0, 11, 2, -1, 3}));
}

TEST_F(IndexOpsTest, GroupByExpertSortsPairsByExpertThenRow) {
  // Local experts 0 and 1 are experts 3 and 1.
  const Tensor ids = Tensor::Ints({4, 2}, {1, 3, 0, 2, 3, -1, 1, 0});
  const Tensor local = Tensor::Ints({4}, {-1, 1, -1, 0});
  for (const int64_t slots : {0, 2}) {
    Tensor offsets(DType::kInt32, {3});
    Tensor rows(DType::kInt32, {8});
    Tensor outs(DType::kInt32, {8});
    backend_->GroupByExpert(*stream_,
                            {ids, local, slots, offsets.view(), rows.view(), outs.view()});
    EXPECT_EQ(offsets.ints(), (std::vector<int32_t>{0, 2, 4}));
    const std::vector<int32_t> got_rows = rows.ints();
    const std::vector<int32_t> got_outs = outs.ints();
    EXPECT_EQ(std::vector<int32_t>(got_rows.begin(), got_rows.begin() + 4),
              (std::vector<int32_t>{0, 2, 0, 3}));
    EXPECT_EQ(std::vector<int32_t>(got_outs.begin(), got_outs.begin() + 4),
              slots == 0 ? (std::vector<int32_t>{1, 2, 0, 3}) : (std::vector<int32_t>{1, 4, 0, 6}));
  }
}

TEST_F(IndexOpsTest, GroupByExpertWithoutRowsOrLocalExperts) {
  const Tensor none(DType::kInt32, {0, 2});
  const Tensor ids = Tensor::Ints({1, 2}, {0, 1});
  const Tensor local = Tensor::Ints({2}, {-1, -1});
  Tensor offsets = Tensor::Ints({3}, {9, 9, 9});
  Tensor empty(DType::kInt32, {0});
  Tensor two(DType::kInt32, {2});
  backend_->GroupByExpert(*stream_, {none, local, 0, offsets.view(), empty.view(), empty.view()});
  EXPECT_EQ(offsets.ints(), (std::vector<int32_t>{0, 0, 0}));
  backend_->GroupByExpert(*stream_, {ids, local, 0, offsets.view(), two.view(), two.view()});
  EXPECT_EQ(offsets.ints(), (std::vector<int32_t>{0, 0, 0}));
}

}  // namespace
}  // namespace moed
