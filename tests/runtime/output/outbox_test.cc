#include "runtime/output/outbox.h"

#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::ElementsAre;

GenerationDelta Delta(const std::string& text, int32_t token, int32_t choice = 0) {
  GenerationDelta delta;
  delta.choice = choice;
  delta.text = text;
  delta.token_ids = {token};
  return delta;
}

// A box whose continuation `choice` has begun and been read.
void Begin(Outbox& box, int32_t choice = 0) {
  ASSERT_TRUE(box.OnDelta(Delta("begin", 0, choice)));
  ASSERT_TRUE(box.Pop());
  ASSERT_FALSE(box.Pop());
}

TEST(OutboxTest, JoinsWhatWaits) {
  Outbox box(1000, nullptr);
  EXPECT_TRUE(box.OnDelta(Delta("a", 1)));
  EXPECT_TRUE(box.OnDelta(Delta("b", 2)));
  const auto message = box.Pop();
  ASSERT_TRUE(message && message->delta);
  EXPECT_EQ(message->delta->text, "ab");
  EXPECT_THAT(message->delta->token_ids, ElementsAre(1, 2));
  EXPECT_FALSE(message->end);
  EXPECT_EQ(box.pending_bytes(), 0u);
  EXPECT_FALSE(box.Pop());
}

TEST(OutboxTest, JoinsNoMoreThanAMessageMayHave) {
  Outbox box(size_t{1} << 30, nullptr);
  const std::string half(Outbox::kMaxJoinedBytes / 2 - sizeof(int32_t), 'a');
  for (int32_t token = 0; token < 3; ++token) EXPECT_TRUE(box.OnDelta(Delta(half, token)));
  EXPECT_TRUE(box.OnDelta(Delta("b", 3)));
  EXPECT_TRUE(box.OnDelta(Delta("c", 4, /*choice=*/1)));
  EXPECT_TRUE(box.OnDelta(Delta("d", 5)));
  const auto first = box.Pop();
  ASSERT_TRUE(first && first->delta);
  EXPECT_THAT(first->delta->token_ids, ElementsAre(0, 1));
  const auto second = box.Pop();
  ASSERT_TRUE(second && second->delta);
  EXPECT_THAT(second->delta->token_ids, ElementsAre(2, 3, 5));
  const auto third = box.Pop();
  ASSERT_TRUE(third && third->delta);
  EXPECT_EQ(third->delta->choice, 1);
  EXPECT_EQ(box.pending_bytes(), 0u);
}

TEST(OutboxTest, JoinsEverythingThatADeltaHas) {
  Outbox box(1000, nullptr);
  GenerationDelta first = Delta("a", 1);
  first.prompt = PromptReport{7, 4, {{9, -3.0F, {}}}};
  first.logprobs = {{1, -1.0F, {}}};
  first.routed_experts = {3, 4};
  GenerationDelta last = Delta("b", 2);
  last.logprobs = {{2, -2.0F, {}}};
  last.routed_experts = {5};
  last.finish = ChoiceFinish();
  last.finish->completion_tokens = 2;
  box.OnDelta(first);
  box.OnDelta(last);
  const auto message = box.Pop();
  ASSERT_TRUE(message && message->delta && message->delta->prompt && message->delta->finish);
  EXPECT_EQ(message->delta->prompt->cached_tokens, 4);
  EXPECT_EQ(message->delta->prompt->logprobs.size(), 1u);
  ASSERT_EQ(message->delta->logprobs.size(), 2u);
  EXPECT_EQ(message->delta->logprobs[1].token_id, 2);
  EXPECT_THAT(message->delta->routed_experts, ElementsAre(3, 4, 5));
  EXPECT_EQ(message->delta->finish->completion_tokens, 2);
}

TEST(OutboxTest, NeverJoinsTwoContinuationsAndTakesTheLongestWaitingFirst) {
  Outbox box(1000, nullptr);
  box.OnDelta(Delta("a", 1, 1));
  box.OnDelta(Delta("b", 2, 0));
  box.OnDelta(Delta("c", 3, 1));
  box.OnFinish({});
  const auto first = box.Pop();
  ASSERT_TRUE(first && first->delta);
  EXPECT_EQ(first->delta->choice, 1);
  EXPECT_EQ(first->delta->text, "ac");
  EXPECT_FALSE(first->end) << "another continuation still waits";
  const auto second = box.Pop();
  ASSERT_TRUE(second && second->delta);
  EXPECT_EQ(second->delta->choice, 0);
  EXPECT_EQ(second->delta->text, "b");
  EXPECT_TRUE(second->end);
  EXPECT_FALSE(box.Pop());
}

TEST(OutboxTest, TheFinishComesWithTheLastDeltaOrAlone) {
  Outbox together(1000, nullptr);
  together.OnDelta(Delta("a", 1));
  together.OnFinish({});
  const auto last = together.Pop();
  ASSERT_TRUE(last && last->end && last->delta);
  EXPECT_EQ(last->delta->text, "a");
  EXPECT_FALSE(together.Pop());

  Outbox alone(1000, nullptr);
  alone.OnDelta(Delta("a", 1));
  EXPECT_FALSE(alone.Pop()->end);
  alone.OnFinish({});
  const auto end = alone.Pop();
  ASSERT_TRUE(end && end->end);
  EXPECT_FALSE(end->delta);
  EXPECT_FALSE(alone.Pop());
}

TEST(OutboxTest, AnEarlyEndDropsWhatWaits) {
  Outbox box(1000, nullptr);
  box.OnDelta(Delta("a", 1));
  box.OnFinish({absl::CancelledError("gone")});
  EXPECT_EQ(box.pending_bytes(), 0u);
  const auto message = box.Pop();
  ASSERT_TRUE(message && message->end);
  EXPECT_FALSE(message->delta);
}

TEST(OutboxTest, WakesOnlyAReaderThatFoundItEmpty) {
  int num_wakes = 0;
  Outbox box(1000, [&] { ++num_wakes; });
  box.OnDelta(Delta("a", 1));
  EXPECT_EQ(num_wakes, 1);
  box.OnDelta(Delta("b", 2));
  EXPECT_EQ(num_wakes, 1) << "the reader has been told";
  box.Pop();
  box.OnDelta(Delta("c", 3));
  EXPECT_EQ(num_wakes, 1) << "the reader is writing and will ask again";
  box.Pop();
  EXPECT_FALSE(box.Pop());
  box.OnDelta(Delta("d", 4));
  EXPECT_EQ(num_wakes, 2);
  box.Pop();
  EXPECT_FALSE(box.Pop());
  box.OnFinish({});
  EXPECT_EQ(num_wakes, 3);
}

TEST(OutboxTest, CutsASlowReaderOff) {
  const size_t one = DeltaBytes(Delta("abcd", 1));
  Outbox box(2 * one, nullptr);
  Begin(box);
  EXPECT_TRUE(box.OnDelta(Delta("abcd", 1)));
  EXPECT_TRUE(box.OnDelta(Delta("abcd", 2)));
  EXPECT_FALSE(box.overflowed());
  EXPECT_FALSE(box.OnDelta(Delta("", 3)));
  EXPECT_TRUE(box.overflowed());
  EXPECT_EQ(box.pending_bytes(), 0u) << "its memory is given back at once";
  EXPECT_FALSE(box.OnDelta(Delta("abcd", 4)));
  GenerationFinish finish;
  finish.status = absl::ResourceExhaustedError("slow");
  box.OnFinish(finish);
  const auto message = box.Pop();
  ASSERT_TRUE(message && message->end);
  EXPECT_EQ(message->end->status, finish.status);
  EXPECT_FALSE(message->delta);
}

TEST(OutboxTest, AnEmptyBoxTakesAnyDelta) {
  Outbox box(1, nullptr);
  Begin(box);
  EXPECT_TRUE(box.OnDelta(Delta(std::string(100, 'a'), 1)));
  EXPECT_FALSE(box.OnDelta(Delta("b", 2)));
}

TEST(OutboxTest, TheFirstDeltaOfEachContinuationDoesNotCount) {
  const std::string echo(100, 'a');
  Outbox box(50, nullptr);
  for (const int32_t choice : {0, 1, 2}) EXPECT_TRUE(box.OnDelta(Delta(echo, 1, choice)));
  EXPECT_GE(box.pending_bytes(), 300u);
  EXPECT_TRUE(box.OnDelta(Delta(std::string(40, 'b'), 2, 1)));
  EXPECT_FALSE(box.OnDelta(Delta(std::string(40, 'b'), 3, 1)));
  EXPECT_TRUE(box.overflowed());
}

TEST(OutboxTest, WhatHasBeenReadMakesRoom) {
  const size_t one = DeltaBytes(Delta("abcd", 1));
  Outbox box(2 * one, nullptr);
  Begin(box);
  for (int32_t token = 0; token < 100; ++token) {
    ASSERT_TRUE(box.OnDelta(Delta("abcd", token))) << token;
    ASSERT_TRUE(box.OnDelta(Delta("abcd", token))) << token;
    ASSERT_TRUE(box.Pop());
  }
}

TEST(OutboxTest, EverythingThatGrowsCounts) {
  GenerationDelta delta = Delta("a", 1);
  const TokenLogprob logprob = {1, -1.0F, {{1, -1.0F}, {2, -2.0F}}};
  size_t before = DeltaBytes(delta);
  delta.logprobs.push_back(logprob);
  EXPECT_GE(DeltaBytes(delta), before + 2 * sizeof(logprob.top[0]));
  before = DeltaBytes(delta);
  delta.routed_experts.assign(8, 1);
  EXPECT_GE(DeltaBytes(delta), before + 8 * sizeof(int16_t));
  before = DeltaBytes(delta);
  delta.prompt = PromptReport{3, 0, {logprob}};
  EXPECT_GE(DeltaBytes(delta), before + 2 * sizeof(logprob.top[0]));
}

TEST(OutboxTest, AReaderThatHasGoneTakesNothingMore) {
  Outbox box(1000, nullptr);
  box.OnDelta(Delta("a", 1));
  box.Close();
  EXPECT_EQ(box.pending_bytes(), 0u);
  EXPECT_FALSE(box.OnDelta(Delta("b", 2)));
  EXPECT_FALSE(box.overflowed());
  box.OnFinish({});
  EXPECT_TRUE(box.Pop()->end);
}

TEST(OutboxTest, NothingIsLostBetweenTwoThreads) {
  constexpr int kNumTokens = 20000;
  constexpr int kNumChoices = 3;
  Mutex mutex;
  CondVar wake;
  bool is_ready = false;
  Outbox box(size_t{1} << 30, [&] {
    MutexLock lock(mutex);
    is_ready = true;
    wake.NotifyOne();
  });
  std::thread writer([&] {
    for (int token = 0; token < kNumTokens; ++token) {
      ASSERT_TRUE(box.OnDelta(Delta("x", token, token % kNumChoices)));
    }
    box.OnFinish({});
  });
  std::vector<int32_t> num_read(kNumChoices, 0);
  size_t text_bytes = 0;
  for (bool is_finished = false; !is_finished;) {
    {
      MutexLock lock(mutex);
      while (!is_ready) wake.Wait(mutex);
      is_ready = false;
    }
    while (const auto message = box.Pop()) {
      ASSERT_FALSE(is_finished) << "a message follows the end";
      is_finished = message->end.has_value();
      if (!message->delta) continue;
      text_bytes += message->delta->text.size();
      const int32_t choice = message->delta->choice;
      for (const int32_t token : message->delta->token_ids) {
        ASSERT_EQ(token, num_read[choice]++ * kNumChoices + choice);
      }
    }
  }
  writer.join();
  EXPECT_EQ(text_bytes, static_cast<size_t>(kNumTokens));
}

}  // namespace
}  // namespace moed
