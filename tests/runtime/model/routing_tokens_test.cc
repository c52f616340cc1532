// Experts by token id, against maps and sorted lists of everything that was added.
#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/model/token_routing.h"
#include "runtime/model/token_routing_report.h"

namespace moed {
namespace {

constexpr int64_t kMegabyte = int64_t{1} << 20;

struct Row {
  int32_t token_id = 0;
  std::vector<std::vector<int16_t>> experts;  // [num_layers][choices]
};

// A router that mostly follows the token id, and rows that choose one to `max_choices` experts.
std::vector<Row> DrawRows(const TokenRoutingShape& shape, int max_choices, int num_rows,
                          std::mt19937_64& random) {
  std::vector<Row> rows;
  for (int i = 0; i < num_rows; ++i) {
    Row row;
    // Few token ids have most of the rows, many have one or none.
    const double place = std::uniform_real_distribution<>(0, 1)(random);
    row.token_id = static_cast<int32_t>(place * place * place * shape.vocab);
    const int num_choices = std::uniform_int_distribution<>(1, max_choices)(random);
    for (int layer = 0; layer < shape.num_layers; ++layer) {
      std::vector<int16_t> experts(shape.num_experts);
      for (int e = 0; e < shape.num_experts; ++e) experts[e] = static_cast<int16_t>(e);
      std::shuffle(experts.begin(), experts.end(), random);
      if (std::uniform_int_distribution<>(0, 9)(random) < 6) {
        const auto home = static_cast<int16_t>((row.token_id * 7 + layer) % shape.num_experts);
        std::iter_swap(experts.begin(), std::find(experts.begin(), experts.end(), home));
      }
      experts.resize(num_choices);
      row.experts.push_back(experts);
    }
    rows.push_back(row);
  }
  return rows;
}

// As a rank traces them.
std::pair<std::vector<int32_t>, std::vector<int16_t>> Trace(const std::vector<Row>& rows,
                                                            int num_layers, int max_choices) {
  std::vector<int32_t> token_ids;
  std::vector<int16_t> expert_ids;
  for (const Row& row : rows) token_ids.push_back(row.token_id);
  for (int layer = 0; layer < num_layers; ++layer) {
    for (const Row& row : rows) {
      std::vector<int16_t> experts = row.experts[layer];
      experts.resize(max_choices, -1);
      expert_ids.insert(expert_ids.end(), experts.begin(), experts.end());
    }
  }
  return {token_ids, expert_ids};
}

TokenRouting Make(const TokenRoutingShape& shape) {
  return TokenRouting::Create(shape, 64 * kMegabyte).value();
}

void Add(const std::vector<Row>& rows, int max_choices, TokenRouting* routing) {
  const auto [token_ids, expert_ids] = Trace(rows, routing->shape().num_layers, max_choices);
  const absl::Status status = routing->Check(token_ids, expert_ids);
  ASSERT_TRUE(status.ok()) << status;
  routing->Add(token_ids, expert_ids);
}

TokenRoutingReport Report(const TokenRouting& routing, int top_n, int32_t piece = 1 << 20) {
  TokenRoutingReader reader(routing.shape(), top_n);
  while (reader.ReadSome(routing, piece)) {
  }
  return reader.Finish();
}

struct ByHand {
  double favourite = 0;
  double agreement = 0;
  int64_t num_rows = 0;
  int64_t num_token_ids = 0;
};

// Pair by pair.
ByHand ConsistencyOf(const std::vector<Row>& rows, int layer) {
  std::map<int32_t, std::vector<int16_t>> firsts;
  for (const Row& row : rows) firsts[row.token_id].push_back(row.experts[layer][0]);
  ByHand result;
  for (const auto& [token_id, experts] : firsts) {
    if (experts.size() < 2) continue;
    ++result.num_token_ids;
    result.num_rows += static_cast<int64_t>(experts.size());
    std::map<int16_t, int64_t> counts;
    int64_t agreeing = 0;
    for (size_t i = 0; i < experts.size(); ++i) {
      ++counts[experts[i]];
      for (size_t j = 0; j < experts.size(); ++j) {
        agreeing += i != j && experts[i] == experts[j] ? 1 : 0;
      }
    }
    int64_t most = 0;
    for (const auto& [expert, count] : counts) most = std::max(most, count);
    result.favourite += static_cast<double>(most);
    result.agreement += static_cast<double>(agreeing) / static_cast<double>(experts.size() - 1);
  }
  if (result.num_rows > 0) {
    result.favourite /= static_cast<double>(result.num_rows);
    result.agreement /= static_cast<double>(result.num_rows);
  }
  return result;
}

TEST(TokenRoutingTest, SeededRowsEqualCountingByHand) {
  constexpr TokenRoutingShape kShape{3, 6, 200};
  constexpr int kMaxChoices = 3;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    TokenRouting routing = Make(kShape);
    std::vector<Row> rows;
    for (int step = 0; step < 30; ++step) {
      const int num_rows = std::uniform_int_distribution<>(0, 40)(random);
      const std::vector<Row> batch = DrawRows(kShape, kMaxChoices, num_rows, random);
      Add(batch, kMaxChoices, &routing);
      rows.insert(rows.end(), batch.begin(), batch.end());
    }
    constexpr int kTop = 5;
    const TokenRoutingReport report = Report(routing, kTop, 1 + static_cast<int32_t>(seed) * 17);
    EXPECT_EQ(report.num_rows, static_cast<int64_t>(rows.size()));
    for (int layer = 0; layer < kShape.num_layers; ++layer) {
      const ByHand expected = ConsistencyOf(rows, layer);
      const RoutingConsistency& actual = report.consistency[layer];
      EXPECT_EQ(actual.num_rows, expected.num_rows);
      EXPECT_EQ(actual.num_token_ids, expected.num_token_ids);
      EXPECT_NEAR(actual.favourite, expected.favourite, 1e-12);
      EXPECT_NEAR(actual.agreement, expected.agreement, 1e-12);
      for (int expert = 0; expert < kShape.num_experts; ++expert) {
        std::map<int32_t, int64_t> received;
        std::map<int32_t, int64_t> seen;
        for (const Row& row : rows) {
          ++seen[row.token_id];
          const auto& chosen = row.experts[layer];
          if (std::count(chosen.begin(), chosen.end(), expert) > 0) ++received[row.token_id];
        }
        std::vector<std::pair<int64_t, int32_t>> order;
        for (const auto& [token_id, count] : received) order.push_back({-count, token_id});
        std::sort(order.begin(), order.end());
        order.resize(std::min<size_t>(order.size(), kTop));
        const auto& top = report.top_tokens[layer * kShape.num_experts + expert];
        ASSERT_EQ(top.size(), order.size()) << "layer " << layer << ", expert " << expert;
        for (size_t i = 0; i < order.size(); ++i) {
          EXPECT_EQ(top[i].token_id, order[i].second) << "layer " << layer << ", place " << i;
          EXPECT_EQ(top[i].num_rows, -order[i].first);
          EXPECT_NEAR(top[i].share, static_cast<double>(top[i].num_rows) / seen[top[i].token_id],
                      1e-12);
        }
      }
    }
  }
}

TEST(TokenRoutingTest, ChoicesOfAllTokenIdsSumToTheRowsTimesTheirChoices) {
  constexpr TokenRoutingShape kShape{2, 8, 50};
  std::mt19937_64 random(3);
  const std::vector<Row> rows = DrawRows(kShape, 2, 500, random);
  TokenRouting routing = Make(kShape);
  Add(rows, 2, &routing);
  int64_t num_choices = 0;
  for (const Row& row : rows) num_choices += static_cast<int64_t>(row.experts[0].size());
  for (int layer = 0; layer < kShape.num_layers; ++layer) {
    int64_t first = 0;
    int64_t all = 0;
    for (int32_t token_id = 0; token_id < kShape.vocab; ++token_id) {
      for (int expert = 0; expert < kShape.num_experts; ++expert) {
        first += routing.FirstChoices(token_id)[layer * kShape.num_experts + expert];
        all += routing.AllChoices(token_id)[layer * kShape.num_experts + expert];
      }
    }
    EXPECT_EQ(first, 500);
    EXPECT_EQ(all, num_choices);
  }
}

TEST(TokenRoutingTest, RandomRoutingShowsItsBaselines) {
  constexpr TokenRoutingShape kShape{1, 8, 400};
  std::mt19937_64 random(17);
  TokenRouting routing = Make(kShape);
  std::vector<int32_t> token_ids;
  std::vector<int16_t> expert_ids;
  for (int row = 0; row < 20000; ++row) {
    const double place = std::uniform_real_distribution<>(0, 1)(random);
    token_ids.push_back(static_cast<int32_t>(place * place * kShape.vocab));
    expert_ids.push_back(static_cast<int16_t>(std::uniform_int_distribution<>(0, 7)(random)));
  }
  routing.Add(token_ids, expert_ids);
  const RoutingConsistency consistency = Report(routing, 0).consistency[0];
  EXPECT_NEAR(consistency.favourite, consistency.random_favourite, 0.005);
  EXPECT_GT(consistency.random_favourite, 0.15);  // far from 1 / 8 with some fifty rows each
  EXPECT_NEAR(consistency.agreement, 0.125, 0.005);
}

TEST(TokenRoutingTest, ARouterThatKnowsOnlyTheTokenIdIsPerfectlyConsistent) {
  TokenRouting routing = Make({1, 4, 10});
  std::vector<int32_t> token_ids;
  std::vector<int16_t> expert_ids;
  for (int row = 0; row < 100; ++row) {
    token_ids.push_back(row % 10);
    expert_ids.push_back(static_cast<int16_t>(row % 10 % 4));
  }
  routing.Add(token_ids, expert_ids);
  const TokenRoutingReport report = Report(routing, 3);
  EXPECT_DOUBLE_EQ(report.consistency[0].favourite, 1);
  EXPECT_DOUBLE_EQ(report.consistency[0].agreement, 1);
  EXPECT_LT(report.consistency[0].random_favourite, 0.6);
  ASSERT_EQ(report.top_tokens[3].size(), 2U);
  EXPECT_EQ(report.top_tokens[3][0].token_id, 3);
  EXPECT_EQ(report.top_tokens[3][1].token_id, 7);
}

TEST(TokenRoutingTest, ATokenIdSeenOnceSaysNothingOfConsistency) {
  TokenRouting routing = Make({1, 4, 10});
  routing.Add({1, 2, 3}, {0, 1, 2});
  const TokenRoutingReport report = Report(routing, 1);
  EXPECT_EQ(report.consistency[0].num_rows, 0);
  EXPECT_DOUBLE_EQ(report.consistency[0].favourite, 0);
  EXPECT_EQ(report.top_tokens[2].size(), 1U);
  EXPECT_TRUE(report.top_tokens[3].empty());
}

TEST(TokenRoutingTest, WithoutRowsTheReportIsEmpty) {
  TokenRouting routing = Make({2, 1, 3});
  routing.Add({}, {});
  const TokenRoutingReport report = Report(routing, 4);
  EXPECT_EQ(report.num_rows, 0);
  EXPECT_EQ(report.consistency.size(), 2U);
  EXPECT_EQ(report.top_tokens.size(), 2U);
}

TEST(TokenRoutingTest, OneExpertIsAlwaysTheFavourite) {
  TokenRouting routing = Make({1, 1, 3});
  routing.Add({0, 0, 2}, {0, 0, 0});
  const RoutingConsistency consistency = Report(routing, 1).consistency[0];
  EXPECT_DOUBLE_EQ(consistency.favourite, 1);
  EXPECT_DOUBLE_EQ(consistency.random_favourite, 1);
}

TEST(TokenRoutingTest, RowsWithoutAChoiceCountForNoExpert) {
  TokenRouting routing = Make({1, 2, 3});
  routing.Add({0, 0}, {-1, -1, 1, -1});
  EXPECT_EQ(routing.AllChoices(0)[0], 0U);
  EXPECT_EQ(routing.AllChoices(0)[1], 1U);
  EXPECT_EQ(routing.FirstChoices(0)[1], 1U);
}

TEST(TokenRoutingTest, WhatDoesNotFitTheModelIsRefused) {
  const TokenRouting routing = Make({2, 4, 10});
  const auto message = [&](std::vector<int32_t> token_ids, std::vector<int16_t> expert_ids) {
    const absl::Status status = routing.Check(token_ids, expert_ids);
    return status.ok() ? "" : std::string(status.message());
  };
  EXPECT_EQ(message({9}, {0, 3}), "");
  EXPECT_EQ(message({9}, {0, -1}), "");
  EXPECT_EQ(message({}, {}), "");
  EXPECT_EQ(message({10}, {0, 3}), "traced token id 10 of a vocabulary of 10");
  EXPECT_EQ(message({-1}, {0, 3}), "traced token id -1 of a vocabulary of 10");
  EXPECT_EQ(message({1}, {0, 4}), "traced expert 4 of 4");
  EXPECT_EQ(message({1}, {0, -2}), "traced expert -2 of 4");
  EXPECT_EQ(message({1}, {0, 1, 2}), "traced 3 choices of 1 rows in 2 layers");
  EXPECT_EQ(message({1}, {}), "traced 0 choices of 1 rows in 2 layers");
  EXPECT_EQ(message({}, {1}), "traced 1 choices of 0 rows in 2 layers");
}

TEST(TokenRoutingTest, MemoryIsStatedAndRefusedWithNumbers) {
  // Mixtral 8x7B: 62.5 MiB.
  EXPECT_EQ(TokenRouting::Bytes({32, 8, 32000}, int64_t{1} << 30).value(), 65'536'000);
  const absl::Status over = TokenRouting::Create({32, 8, 32000}, kMegabyte).status();
  EXPECT_EQ(over.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(over.message(),
            "counting experts by token id takes 8 bytes * 32000 token ids * 32 layers * 8 experts "
            "= 65536000; the limit is 1048576");
  constexpr int32_t kHuge = 2'000'000'000;
  EXPECT_EQ(TokenRouting::Bytes({kHuge, kHuge, kHuge}, int64_t{1} << 62).status().code(),
            absl::StatusCode::kResourceExhausted);
  for (const TokenRoutingShape& shape :
       {TokenRoutingShape{0, 1, 1}, TokenRoutingShape{1, 0, 1}, TokenRoutingShape{1, 1, 0}}) {
    EXPECT_EQ(TokenRouting::Bytes(shape, kMegabyte).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace moed
