#include "runtime/output/outbox.h"

#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::ElementsAre;

GenerationDelta Delta(const std::string& text, int32_t token) {
  GenerationDelta delta;
  delta.text = text;
  delta.token_ids = {token};
  return delta;
}

TEST(OutboxTest, JoinsWhatWaits) {
  Outbox box(1000, nullptr);
  EXPECT_TRUE(box.OnDelta(Delta("a", 1)));
  EXPECT_TRUE(box.OnDelta(Delta("b", 2)));
  const auto message = box.Pop();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->delta.text, "ab");
  EXPECT_THAT(message->delta.token_ids, ElementsAre(1, 2));
  EXPECT_FALSE(message->finish);
  EXPECT_EQ(box.pending_bytes(), 0u);
  EXPECT_FALSE(box.Pop());
}

TEST(OutboxTest, TheFinishComesWithTheLastDeltaOrAlone) {
  Outbox together(1000, nullptr);
  together.OnDelta(Delta("a", 1));
  together.OnFinish({});
  const auto last = together.Pop();
  ASSERT_TRUE(last && last->finish);
  EXPECT_EQ(last->delta.text, "a");
  EXPECT_FALSE(together.Pop());

  Outbox alone(1000, nullptr);
  alone.OnDelta(Delta("a", 1));
  EXPECT_FALSE(alone.Pop()->finish);
  alone.OnFinish({});
  EXPECT_TRUE(alone.Pop()->finish);
  EXPECT_FALSE(alone.Pop());
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
  ASSERT_TRUE(message && message->finish);
  EXPECT_EQ(message->finish->status, finish.status);
  EXPECT_EQ(message->delta.text, "");
}

TEST(OutboxTest, AnEmptyBoxTakesAnyDelta) {
  Outbox box(1, nullptr);
  EXPECT_TRUE(box.OnDelta(Delta(std::string(100, 'a'), 1)));
  EXPECT_FALSE(box.OnDelta(Delta("b", 2)));
}

TEST(OutboxTest, LogprobsCount) {
  GenerationDelta delta = Delta("a", 1);
  const size_t without = DeltaBytes(delta);
  delta.logprobs.push_back({1, -1.0F, {{1, -1.0F}, {2, -2.0F}}});
  EXPECT_GE(DeltaBytes(delta), without + 2 * sizeof(delta.logprobs[0].top[0]));
}

TEST(OutboxTest, AReaderThatHasGoneTakesNothingMore) {
  Outbox box(1000, nullptr);
  box.OnDelta(Delta("a", 1));
  box.Close();
  EXPECT_EQ(box.pending_bytes(), 0u);
  EXPECT_FALSE(box.OnDelta(Delta("b", 2)));
  EXPECT_FALSE(box.overflowed());
  box.OnFinish({});
  EXPECT_TRUE(box.Pop()->finish);
}

TEST(OutboxTest, NothingIsLostBetweenTwoThreads) {
  constexpr int kNumTokens = 20000;
  Mutex mutex;
  CondVar wake;
  bool is_ready = false;
  Outbox box(size_t{1} << 30, [&] {
    MutexLock lock(mutex);
    is_ready = true;
    wake.NotifyOne();
  });
  std::thread writer([&] {
    for (int token = 0; token < kNumTokens; ++token) ASSERT_TRUE(box.OnDelta(Delta("x", token)));
    box.OnFinish({});
  });
  std::vector<int32_t> tokens;
  size_t text_bytes = 0;
  for (bool is_finished = false; !is_finished;) {
    {
      MutexLock lock(mutex);
      while (!is_ready) wake.Wait(mutex);
      is_ready = false;
    }
    while (const auto message = box.Pop()) {
      text_bytes += message->delta.text.size();
      tokens.insert(tokens.end(), message->delta.token_ids.begin(), message->delta.token_ids.end());
      is_finished = message->finish.has_value();
    }
  }
  writer.join();
  ASSERT_EQ(tokens.size(), static_cast<size_t>(kNumTokens));
  EXPECT_EQ(text_bytes, tokens.size());
  for (int token = 0; token < kNumTokens; ++token) ASSERT_EQ(tokens[token], token);
}

}  // namespace
}  // namespace moed
