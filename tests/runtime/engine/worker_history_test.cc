// What sampling looks back at: prompt, drawn tokens and bad words, before and after a preemption.
#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/engine/slot_history.h"
#include "tests/runtime/engine/worker_harness.h"

namespace moed {
namespace {

constexpr int64_t kVocab = 12;

std::vector<int32_t> RandomTokens(std::mt19937_64& random, size_t most) {
  std::vector<int32_t> tokens(random() % (most + 1));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
  return tokens;
}

SlotInit RandomInit(std::mt19937_64& random) {
  SlotInit init;
  init.sampling.repetition_penalty = 1.5F;
  init.prompt_token_ids = RandomTokens(random, 8);
  for (uint64_t words = random() % 5; words > 0; --words) {
    std::vector<int32_t> word = RandomTokens(random, 2);
    word.push_back(static_cast<int32_t>(random() % kVocab));
    init.sampling.bad_words.push_back(word);
  }
  return init;
}

// The same by looking through all tokens.
std::vector<SeenToken> CountSeen(const std::vector<int32_t>& prompt,
                                 const std::vector<int32_t>& drawn) {
  std::vector<SeenToken> seen;
  for (int32_t id = 0; id < kVocab; ++id) {
    const bool in_prompt = std::count(prompt.begin(), prompt.end(), id) > 0;
    const auto num_drawn = static_cast<int32_t>(std::count(drawn.begin(), drawn.end(), id));
    if (in_prompt || num_drawn > 0) seen.push_back({id, num_drawn, in_prompt});
  }
  return seen;
}

std::multiset<int32_t> FindBanned(const std::vector<std::vector<int32_t>>& words,
                                  const std::vector<int32_t>& drawn) {
  std::multiset<int32_t> banned;
  for (const std::vector<int32_t>& word : words) {
    for (int32_t id = 0; id < kVocab; ++id) {
      std::vector<int32_t> with = drawn;
      with.push_back(id);
      if (with.size() >= word.size() && std::equal(word.rbegin(), word.rend(), with.rbegin())) {
        banned.insert(id);
      }
    }
  }
  return banned;
}

void ExpectHistory(const SlotHistory& history, const SlotInit& init,
                   const std::vector<int32_t>& drawn, const std::string& place) {
  const std::vector<SeenToken> expected = CountSeen(init.prompt_token_ids, drawn);
  ASSERT_EQ(history.seen().size(), expected.size()) << place;
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(history.seen()[i].token_id, expected[i].token_id) << place;
    EXPECT_EQ(history.seen()[i].num_drawn, expected[i].num_drawn) << place;
    EXPECT_EQ(history.seen()[i].in_prompt, expected[i].in_prompt) << place;
  }
  std::vector<int32_t> banned;
  history.AppendBanned(init.sampling.bad_words, banned);
  EXPECT_EQ(std::multiset<int32_t>(banned.begin(), banned.end()),
            FindBanned(init.sampling.bad_words, drawn))
      << place;
}

TEST(SlotHistoryTest, IsWhatLookingThroughAllTokensFinds) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    const SlotInit init = RandomInit(random);
    const std::vector<int32_t> tokens = RandomTokens(random, 20);
    SlotHistory history;
    history.Reset(init, kVocab, 64);
    std::vector<int32_t> drawn;
    for (const int32_t token : tokens) {
      ExpectHistory(history, init, drawn, absl::StrCat("seed ", seed, ", ", drawn.size()));
      history.Append(token);
      drawn.push_back(token);
    }
    ExpectHistory(history, init, drawn, absl::StrCat("seed ", seed, ", all"));
    // Back after a preemption, in an object that held another's.
    SlotInit back = init;
    back.generated_token_ids = drawn;
    history.Reset(RandomInit(random), kVocab, 64);
    history.Reset(back, kVocab, 64);
    ExpectHistory(history, init, drawn, absl::StrCat("seed ", seed, ", back"));
  }
}

TEST(SlotHistoryTest, KeepsNothingWhereNothingLooksBack) {
  SlotInit init;
  init.prompt_token_ids = {1, 2, 3};
  SlotHistory history;
  history.Reset(init, kVocab, 64);
  history.Append(4);
  EXPECT_TRUE(history.seen().empty());
}

// A request whose every draw depends on the ones before.
HarnessRequest LookingBack(uint64_t seed) {
  HarnessRequest request = SmallRequest(9, 16, seed);
  SamplingParams& sampling = request.init.sampling;
  sampling.temperature = 0.5F;
  sampling.presence_penalty = 0.8F;
  sampling.frequency_penalty = 1.1F;
  sampling.repetition_penalty = 1.3F;
  sampling.allowed_token_ids = {3, 14, 15, 92};
  sampling.bad_words = {{3, 14}, {15, 15}, {92, 3, 92}};
  return request;
}

TEST(WorkerHistoryTest, IsRebuiltAfterAPreemption) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    HarnessRequest request = LookingBack(seed);
    const auto alone = RunRequests(SmallHarnessOptions(1), {request});
    request.preempted_after = {1, 2, 7, 15};
    request.init.sampling.n = 2;
    const auto run = RunRequests(SmallHarnessOptions(2), {request});
    ExpectSame(run.outputs.at(0), alone.outputs.at(0), absl::StrCat("seed ", seed));
  }
}

TEST(WorkerHistoryTest, ATokenThatPresenceForbidsIsDrawnOnce) {
  HarnessRequest request = SmallRequest(9, 24, 5);
  request.init.sampling.temperature = 0;
  request.init.sampling.presence_penalty = 1e6F;
  request.init.sampling.n = 3;
  request.preempted_after = {4, 11};
  const auto run = RunRequests(SmallHarnessOptions(1), {request});
  const std::vector<int32_t> ids = TokenIds(run.outputs.at(0));
  EXPECT_EQ(std::set<int32_t>(ids.begin(), ids.end()).size(), 24U);
  // Greedy continuations look back at their own tokens only, and so are equal.
  for (const HarnessOutput& fork : run.outputs.at(0).forks) EXPECT_EQ(TokenIds(fork), ids);
}

TEST(WorkerHistoryTest, ABadWordIsNeverFinishedAndOneOfOneTokenNeverBegun) {
  HarnessRequest request = SmallRequest(6, 8, 2);
  request.init.sampling.temperature = 0;
  const auto draw = [](const HarnessRequest& asked) {
    return TokenIds(RunRequests(SmallHarnessOptions(1), {asked}).outputs.at(0));
  };
  const std::vector<int32_t> free = draw(request);
  ASSERT_NE(free[1], free[2]);

  request.init.sampling.bad_words = {{free[1], free[2]}};
  std::vector<int32_t> ids = draw(request);
  EXPECT_EQ(ids[1], free[1]);
  EXPECT_NE(ids[2], free[2]);
  const int32_t pair[] = {free[1], free[2]};
  EXPECT_EQ(std::search(ids.begin(), ids.end(), std::begin(pair), std::end(pair)), ids.end());

  request.init.sampling.bad_words = {{free[1]}};
  ids = draw(request);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), free[1]), 0);

  // The prompt's last token does not begin one.
  request.init.sampling.bad_words = {{request.prompt.back(), free[0]}};
  EXPECT_EQ(draw(request)[0], free[0]);
}

}  // namespace
}  // namespace moed
