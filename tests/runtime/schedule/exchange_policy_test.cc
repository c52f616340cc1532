#include "runtime/schedule/exchange_policy.h"

#include <vector>

#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

constexpr ExchangeStrategy kExact = ExchangeStrategy::kExact;
constexpr ExchangeStrategy kGather = ExchangeStrategy::kGather;

struct Case {
  ExchangeMode mode;
  int32_t max_gather_rows;
  std::vector<int32_t> num_rows;
  ExchangeStrategy strategy;
  int32_t padded_rows;
  int32_t group_ranks = 0;
};

TEST(ExchangePolicyTest, ChoosesByTheTable) {
  const ExchangeMode automatic = ExchangeMode::kAuto;
  const std::vector<Case> cases = {
      // Decodes gather; the fullest rank says how much is padded.
      {automatic, 64, {1, 0, 0, 0}, kGather, 1},
      {automatic, 64, {3, 7, 0, 5}, kGather, 7},
      // 8 * 23 = 184 rows are still gathered, 8 * 24 are not: padding travels too.
      {automatic, 64, {23, 23, 23, 23, 23, 23, 23, 23}, kGather, 23},
      {automatic, 64, {23, 0, 0, 0, 0, 0, 0, 0}, kGather, 23},
      {automatic, 64, {24, 0, 0, 0, 0, 0, 0, 0}, kExact, 0},
      {automatic, 256, {184}, kGather, 184},
      {automatic, 256, {185}, kExact, 0},
      // A rank that stands for eight decides as the eight would; one of several never less.
      {automatic, 64, {23}, kGather, 23, 8},
      {automatic, 64, {24}, kExact, 0, 8},
      {automatic, 64, {24, 0, 0, 0, 0, 0, 0, 0}, kExact, 0, 1},
      {automatic, 64, {62, 62}, kGather, 62, 2},
      // What the ranks have room for bounds it as well.
      {automatic, 16, {16, 2}, kGather, 16},
      {automatic, 16, {17, 2}, kExact, 0},
      {automatic, 0, {1, 1}, kExact, 0},
      // Forced.
      {ExchangeMode::kExact, 64, {1, 1}, kExact, 0},
      {ExchangeMode::kGather, 512, {512, 0}, kGather, 512},
  };
  for (const Case& c : cases) {
    ExchangePolicy policy;
    policy.mode = c.mode;
    policy.max_gather_rows = c.max_gather_rows;
    policy.group_ranks = c.group_ranks;
    const ExchangeDecision decision = ChooseExchange(policy, c.num_rows);
    const std::string rows = absl::StrJoin(c.num_rows, ",");
    EXPECT_EQ(decision.strategy, c.strategy) << "rows " << rows << " room " << c.max_gather_rows;
    EXPECT_EQ(decision.padded_rows, c.padded_rows) << "rows " << rows;
  }
}

TEST(ExchangePolicyTest, ForcedGatherBoundsTheBudget) {
  ExchangePolicy policy;
  policy.max_gather_rows = 16;
  EXPECT_EQ(TokenBudgetLimit(policy, 64), 64);
  policy.mode = ExchangeMode::kGather;
  EXPECT_EQ(TokenBudgetLimit(policy, 64), 16);
  EXPECT_EQ(TokenBudgetLimit(policy, 8), 8);
}

}  // namespace
}  // namespace moed
