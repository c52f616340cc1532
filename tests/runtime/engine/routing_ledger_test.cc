#include "runtime/engine/routing_ledger.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace moed {
namespace {

using std::chrono::seconds;

constexpr int kRanks = 2;
constexpr int kLayers = 2;
constexpr int kExperts = 4;
const TimePoint kStart{seconds(50)};

RoutingLedgerOptions Options(bool keeps_tokens = false) {
  RoutingLedgerOptions options;
  options.num_ranks = kRanks;
  options.num_layers = kLayers;
  options.num_experts = kExperts;
  options.experts_per_token = 2;
  options.keeps_tokens = keeps_tokens;
  options.vocab = keeps_tokens ? 100 : 0;
  return options;
}

std::unique_ptr<RoutingLedger> Make(const RoutingLedgerOptions& options) {
  return RoutingLedger::Create(options, kStart).value();
}

RankResult EmptyResult() {
  RankResult result;
  result.expert_counts.assign(kLayers * kExperts, 0);
  result.repetition.same_first.assign(kLayers, 0);
  result.repetition.any_shared.assign(kLayers, 0);
  return result;
}

RankResult DrawResult(std::mt19937_64& random) {
  const auto draw = [&](int most) { return std::uniform_int_distribution<>(0, most)(random); };
  RankResult result = EmptyResult();
  for (int64_t& count : result.expert_counts) count = draw(50);
  result.repetition.num_rows = 100 + draw(50);
  for (int layer = 0; layer < kLayers; ++layer) {
    result.repetition.same_first[layer] = draw(50);
    result.repetition.any_shared[layer] = result.repetition.same_first[layer] + draw(50);
  }
  result.dropped_pairs = draw(3);
  result.compute_seconds = 0.25 * draw(8);
  result.collective_wait_seconds = 0.5 * draw(8);
  result.exchange_bytes_sent = draw(1000);
  result.exchange_bytes_received = draw(1000);
  for (int row = draw(20); row > 0; --row) result.routing.token_ids.push_back(draw(99));
  const size_t num_choices = result.routing.token_ids.size() * kLayers * 2;
  for (size_t i = 0; i < num_choices; ++i) {
    const auto expert = static_cast<int16_t>(draw(kExperts - 1));
    // The second choice is another one.
    result.routing.expert_ids.push_back(i % 2 == 1 && expert == result.routing.expert_ids.back()
                                            ? static_cast<int16_t>((expert + 1) % kExperts)
                                            : expert);
  }
  return result;
}

std::string MessageOf(const absl::Status& status) {
  return absl::StatusCodeToString(status.code()) + ": " + std::string(status.message());
}

TEST(RoutingLedgerTest, LoadSumsRanksAndStepsSinceTheStart) {
  std::mt19937_64 random(1);
  const std::unique_ptr<RoutingLedger> ledger = Make(Options());
  RankResult sums = EmptyResult();
  for (int step = 0; step < 50; ++step) {
    const std::vector<RankResult> results = {DrawResult(random), DrawResult(random)};
    ASSERT_TRUE(ledger->Add(results, kStart + seconds(step)).ok());
    for (const RankResult& result : results) {
      for (int i = 0; i < kLayers * kExperts; ++i) sums.expert_counts[i] += result.expert_counts[i];
      for (int layer = 0; layer < kLayers; ++layer) {
        sums.repetition.same_first[layer] += result.repetition.same_first[layer];
        sums.repetition.any_shared[layer] += result.repetition.any_shared[layer];
      }
      sums.repetition.num_rows += result.repetition.num_rows;
      sums.dropped_pairs += result.dropped_pairs;
    }
  }
  const ExpertLoad load = ledger->Load(std::nullopt, kStart + seconds(60));
  EXPECT_EQ(load.num_layers, kLayers);
  EXPECT_EQ(load.num_experts, kExperts);
  EXPECT_EQ(load.expert_tokens, sums.expert_counts);
  EXPECT_EQ(load.dropped_pairs, sums.dropped_pairs);
  EXPECT_DOUBLE_EQ(load.covered_seconds, 60);
  ASSERT_EQ(load.routing.size(), size_t{kLayers});
  ASSERT_EQ(load.repetition.size(), size_t{kLayers});
  for (int layer = 0; layer < kLayers; ++layer) {
    const RepetitionCounts& counts = sums.repetition;
    const double rows = static_cast<double>(counts.num_rows);
    EXPECT_EQ(load.repetition[layer].num_rows, counts.num_rows);
    EXPECT_DOUBLE_EQ(load.repetition[layer].first,
                     static_cast<double>(counts.same_first[layer]) / rows);
    EXPECT_DOUBLE_EQ(load.repetition[layer].any,
                     static_cast<double>(counts.any_shared[layer]) / rows);
    int64_t total = 0;
    for (int e = 0; e < kExperts; ++e) total += sums.expert_counts[layer * kExperts + e];
    EXPECT_EQ(load.routing[layer].total, total);
  }
  EXPECT_DOUBLE_EQ(load.random_repetition.first, 0.25);
  EXPECT_NEAR(load.random_repetition.any, 1 - 2.0 / 4 * 1 / 3, 1e-12);
}

TEST(RoutingLedgerTest, AWindowForgetsOlderSteps) {
  const std::unique_ptr<RoutingLedger> ledger = Make(Options());
  for (int second = 0; second < 100; ++second) {
    std::vector<RankResult> results(kRanks, EmptyResult());
    results[0].expert_counts[1] = 1;
    results[1].expert_counts[1] = 2;
    ASSERT_TRUE(ledger->Add(results, kStart + seconds(second)).ok());
  }
  const ExpertLoad load = ledger->Load(seconds(10), kStart + seconds(100));
  EXPECT_EQ(load.expert_tokens[1], 30);
  EXPECT_DOUBLE_EQ(load.covered_seconds, 10);
  EXPECT_EQ(load.routing[0].num_dead_experts, 3);
  EXPECT_EQ(ledger->Load(std::nullopt, kStart + seconds(100)).expert_tokens[1], 300);
}

TEST(RoutingLedgerTest, RanksAreAddedUpOneByOne) {
  std::mt19937_64 random(2);
  const std::unique_ptr<RoutingLedger> ledger = Make(Options());
  std::vector<RankTotals> expected(kRanks);
  for (int step = 0; step < 20; ++step) {
    const std::vector<RankResult> results = {DrawResult(random), DrawResult(random)};
    ASSERT_TRUE(ledger->Add(results, kStart).ok());
    for (int rank = 0; rank < kRanks; ++rank) {
      expected[rank].compute_seconds += results[rank].compute_seconds;
      expected[rank].collective_wait_seconds += results[rank].collective_wait_seconds;
      expected[rank].exchange_bytes_sent += results[rank].exchange_bytes_sent;
      expected[rank].exchange_bytes_received += results[rank].exchange_bytes_received;
      for (const int64_t count : results[rank].expert_counts) expected[rank].routed_pairs += count;
    }
  }
  const std::vector<RankTotals> totals = ledger->Ranks();
  ASSERT_EQ(totals.size(), size_t{kRanks});
  for (int rank = 0; rank < kRanks; ++rank) {
    EXPECT_EQ(totals[rank].num_steps, 20U);
    EXPECT_DOUBLE_EQ(totals[rank].compute_seconds, expected[rank].compute_seconds);
    EXPECT_DOUBLE_EQ(totals[rank].collective_wait_seconds, expected[rank].collective_wait_seconds);
    EXPECT_EQ(totals[rank].exchange_bytes_sent, expected[rank].exchange_bytes_sent);
    EXPECT_EQ(totals[rank].exchange_bytes_received, expected[rank].exchange_bytes_received);
    EXPECT_EQ(totals[rank].routed_pairs, expected[rank].routed_pairs);
  }
}

TEST(RoutingLedgerTest, TokensAreThoseOfAllRanks) {
  std::mt19937_64 random(3);
  const std::unique_ptr<RoutingLedger> ledger = Make(Options(/*keeps_tokens=*/true));
  TokenRouting expected = TokenRouting::Create({kLayers, kExperts, 100}, 1 << 20).value();
  for (int step = 0; step < 40; ++step) {
    const std::vector<RankResult> results = {DrawResult(random), DrawResult(random)};
    ASSERT_TRUE(ledger->Add(results, kStart).ok());
    for (const RankResult& result : results) {
      expected.Add(result.routing.token_ids, result.routing.expert_ids);
    }
  }
  TokenRoutingReader reader(expected.shape(), 3);
  reader.ReadSome(expected, 100);
  const TokenRoutingReport by_hand = reader.Finish();
  const TokenRoutingReport report = ledger->Tokens(3).value();
  EXPECT_GT(report.num_rows, 0);
  EXPECT_EQ(report.num_rows, by_hand.num_rows);
  for (int layer = 0; layer < kLayers; ++layer) {
    EXPECT_DOUBLE_EQ(report.consistency[layer].favourite, by_hand.consistency[layer].favourite);
  }
  ASSERT_EQ(report.top_tokens.size(), by_hand.top_tokens.size());
  for (size_t i = 0; i < report.top_tokens.size(); ++i) {
    ASSERT_EQ(report.top_tokens[i].size(), 3U);
    EXPECT_EQ(report.top_tokens[i][0].token_id, by_hand.top_tokens[i][0].token_id);
    EXPECT_EQ(report.top_tokens[i][0].num_rows, by_hand.top_tokens[i][0].num_rows);
  }
}

TEST(RoutingLedgerTest, TokensAreRefusedUnlessTurnedOnAndTracesThenIgnored) {
  std::mt19937_64 random(4);
  const std::unique_ptr<RoutingLedger> ledger = Make(Options());
  const std::vector<RankResult> results = {DrawResult(random), DrawResult(random)};
  EXPECT_TRUE(ledger->Add(results, kStart).ok());
  EXPECT_EQ(ledger->Tokens(5).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(RoutingLedgerTest, AnAnswerOfAnotherSizeNamesItsRankAndCountsNothing) {
  const std::unique_ptr<RoutingLedger> ledger = Make(Options(/*keeps_tokens=*/true));
  std::vector<RankResult> results(kRanks, EmptyResult());
  results[0].expert_counts[0] = 7;

  results[1].expert_counts.pop_back();
  EXPECT_EQ(MessageOf(ledger->Add(results, kStart)),
            "INTERNAL: rank 1 counted 7 experts over all layers, of 8");
  results[1] = EmptyResult();
  results[1].repetition.same_first.push_back(1);
  EXPECT_EQ(MessageOf(ledger->Add(results, kStart)),
            "INTERNAL: rank 1 counted 3 layers' repeated first choices, of 2");
  results[1] = EmptyResult();
  results[1].repetition.any_shared.clear();
  EXPECT_EQ(MessageOf(ledger->Add(results, kStart)),
            "INTERNAL: rank 1 counted 0 layers' repeated choices, of 2");
  results[1] = EmptyResult();
  results[1].routing.token_ids = {100};
  results[1].routing.expert_ids = {0, 0};
  EXPECT_EQ(MessageOf(ledger->Add(results, kStart)),
            "INTERNAL: rank 1 traced token id 100 of a vocabulary of 100");
  results.pop_back();
  EXPECT_EQ(MessageOf(ledger->Add(results, kStart)), "INTERNAL: 1 ranks answered, of 2");

  EXPECT_EQ(ledger->Load(std::nullopt, kStart).expert_tokens,
            std::vector<int64_t>(kLayers * kExperts, 0));
  EXPECT_EQ(ledger->Ranks()[0].routed_pairs, 0);
}

TEST(RoutingLedgerTest, ARankThatKeepsNoRepetitionIsAccepted) {
  const std::unique_ptr<RoutingLedger> ledger = Make(Options());
  std::vector<RankResult> results(kRanks, EmptyResult());
  results[0].repetition = RepetitionCounts();
  EXPECT_TRUE(ledger->Add(results, kStart).ok());
  EXPECT_EQ(ledger->Load(std::nullopt, kStart).repetition[0].num_rows, 0);
}

TEST(RoutingLedgerTest, OptionsOutOfRangeAreNamed) {
  const auto message = [](const RoutingLedgerOptions& options) {
    return MessageOf(RoutingLedger::Create(options, kStart).status());
  };
  RoutingLedgerOptions options = Options();
  options.num_ranks = 0;
  EXPECT_EQ(message(options), "INVALID_ARGUMENT: num_ranks is 0, must be at least 1");
  options = Options();
  options.num_layers = 0;
  EXPECT_EQ(message(options), "INVALID_ARGUMENT: num_layers is 0, must be at least 1");
  options = Options();
  options.num_experts = -1;
  EXPECT_EQ(message(options), "INVALID_ARGUMENT: num_experts is -1, must be at least 1");
  options = Options();
  options.experts_per_token = 5;
  EXPECT_EQ(message(options), "INVALID_ARGUMENT: experts_per_token is 5 of 4 experts");
  options = Options(/*keeps_tokens=*/true);
  options.max_token_bytes = 6399;
  EXPECT_EQ(message(options),
            "RESOURCE_EXHAUSTED: counting experts by token id takes 8 bytes * 100 token ids * 2 "
            "layers * 4 experts = 6400; the limit is 6399");
  options.max_token_bytes = 6400;
  EXPECT_TRUE(RoutingLedger::Create(options, kStart).ok());
}

// For ThreadSanitizer; and every answer is of whole steps.
TEST(RoutingLedgerTest, ReadersSeeWholeStepsWhileTheEngineAdds) {
  const std::unique_ptr<RoutingLedger> ledger = Make(Options(/*keeps_tokens=*/true));
  std::vector<RankResult> results(kRanks, EmptyResult());
  for (RankResult& result : results) {
    result.expert_counts.assign(kLayers * kExperts, 1);
    result.routing.token_ids = {5, 99};
    result.routing.expert_ids = {0, 1, 2, 3};
  }
  constexpr int kSteps = 2000;
  std::atomic<bool> is_done = false;
  std::thread engine([&] {
    for (int step = 0; step < kSteps; ++step) {
      EXPECT_TRUE(ledger->Add(results, kStart + std::chrono::milliseconds(step * 7)).ok());
    }
    is_done = true;
  });
  bool was_done = false;
  while (!was_done) {
    was_done = is_done;
    const ExpertLoad load = ledger->Load(seconds(3), kStart);
    EXPECT_EQ(load.expert_tokens, std::vector<int64_t>(kLayers * kExperts, load.expert_tokens[0]));
    EXPECT_EQ(load.expert_tokens[0] % kRanks, 0);
    const TokenRoutingReport report = ledger->Tokens(1).value();
    EXPECT_EQ(report.num_rows % (2 * kRanks), 0);
    const std::vector<RankTotals> totals = ledger->Ranks();
    EXPECT_EQ(totals[0].num_steps, totals[1].num_steps);
  }
  engine.join();
  EXPECT_EQ(ledger->Load(std::nullopt, kStart).expert_tokens[0], kSteps * kRanks);
  EXPECT_EQ(ledger->Tokens(1).value().top_tokens[0][0].num_rows, kSteps * kRanks);
}

}  // namespace
}  // namespace moed
