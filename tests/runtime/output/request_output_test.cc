#include "runtime/output/request_output.h"

#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Last = SequenceOutput::Last;

constexpr int32_t kBos = 1;
constexpr int32_t kHello = kTinyFirstPiece;   // " Hello"
constexpr int32_t kWorld = kHello + 1;        // " world"
constexpr int32_t kExclamation = kHello + 2;  // "!"
constexpr int32_t kCachedTokens = 2;

class RequestOutputTest : public ::testing::Test {
 protected:
  RequestOutputTest()
      : tokenizer_(MakeTinyTokenizer({"\xE2\x96\x81Hello", "\xE2\x96\x81world", "!"})) {
    request_.prompt_token_ids = {kBos, kHello, kWorld};
    request_.stopping.max_tokens = 100;
  }

  RequestOutput MakeOutput() const { return RequestOutput(request_, tokenizer_.get()); }

  static SampledToken Sample(int32_t token, int num_top = 0) {
    SampledToken sample{0, token, -0.1F * static_cast<float>(token % 10), {}};
    for (int i = 0; i < num_top; ++i) sample.top_logprobs.push_back({100 + i, -1.0F - i});
    return sample;
  }
  static GenerationDelta Append(RequestOutput& output, int32_t choice, int32_t token,
                                Last last = Last::kNo) {
    return output.Append(choice, Sample(token, 2), last, kCachedTokens);
  }
  // Log probabilities of the prompt's tokens `targets`, with `num_top` most likely ones each.
  static ChunkReport PromptLogprobs(const std::vector<int32_t>& targets, int num_top) {
    ChunkReport report;
    for (const int32_t target : targets) report.prompt_logprobs.push_back(Sample(target, num_top));
    return report;
  }
  static ChunkReport Experts(std::vector<int16_t> experts) {
    ChunkReport report;
    report.routed_experts = std::move(experts);
    return report;
  }
  static std::vector<int32_t> Ids(const std::vector<TokenLogprob>& logprobs) {
    std::vector<int32_t> ids;
    for (const TokenLogprob& logprob : logprobs) ids.push_back(logprob.token_id);
    return ids;
  }
  static std::vector<size_t> TopSizes(const std::vector<TokenLogprob>& logprobs) {
    std::vector<size_t> sizes;
    for (const TokenLogprob& logprob : logprobs) sizes.push_back(logprob.top.size());
    return sizes;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  GenerationRequest request_;
};

TEST_F(RequestOutputTest, OnlyTheFirstDeltaOfTheRequestTellsOfThePrompt) {
  request_.sampling.n = 2;
  RequestOutput output = MakeOutput();
  EXPECT_EQ(output.num_choices(), 2);
  const GenerationDelta first = Append(output, 1, kExclamation);
  EXPECT_EQ(first.choice, 1);
  ASSERT_TRUE(first.prompt);
  EXPECT_EQ(first.prompt->prompt_tokens, 3);
  EXPECT_EQ(first.prompt->cached_tokens, kCachedTokens);
  EXPECT_THAT(first.prompt->logprobs, IsEmpty());
  EXPECT_EQ(first.text, "!");
  EXPECT_FALSE(Append(output, 1, kExclamation).prompt);
  const GenerationDelta other = Append(output, 0, kExclamation);
  EXPECT_EQ(other.choice, 0);
  EXPECT_FALSE(other.prompt);
}

TEST_F(RequestOutputTest, ContinuationsKeepTheirTextApart) {
  request_.sampling.n = 2;
  request_.stopping.stop_strings = {"!!"};
  RequestOutput output = MakeOutput();
  EXPECT_EQ(Append(output, 0, kExclamation).text, "");
  EXPECT_EQ(Append(output, 1, kExclamation).text, "");
  EXPECT_EQ(Append(output, 1, kHello).text, "! Hello");
  Append(output, 0, kExclamation);
  EXPECT_EQ(output.matched_stop_string(0), "!!");
  EXPECT_FALSE(output.matched_stop_string(1));
  EXPECT_EQ(output.completion_tokens(0), 2);
}

TEST_F(RequestOutputTest, LogprobsOfThePromptAreHeldUntilTheFirstDelta) {
  request_.response.num_prompt_logprobs = 2;
  RequestOutput output = MakeOutput();
  output.Report(0, PromptLogprobs({kHello}, 2));
  output.Report(0, PromptLogprobs({kWorld}, 2));
  const GenerationDelta delta = Append(output, 0, kExclamation);
  ASSERT_TRUE(delta.prompt);
  EXPECT_THAT(Ids(delta.prompt->logprobs), ElementsAre(kHello, kWorld));
  EXPECT_THAT(TopSizes(delta.prompt->logprobs), ElementsAre(2, 2));
  EXPECT_EQ(delta.prompt->logprobs[0].logprob, Sample(kHello).logprob);
  EXPECT_EQ(delta.prompt->logprobs[0].top[1].first, 101);
  EXPECT_THAT(delta.logprobs, IsEmpty()) << "of the continuation none were asked for";
}

TEST_F(RequestOutputTest, LogprobsThatNobodyAskedForAreNotTold) {
  RequestOutput output = MakeOutput();
  output.Report(0, PromptLogprobs({kHello, kWorld}, 2));
  EXPECT_THAT(Append(output, 0, kExclamation).prompt->logprobs, IsEmpty());
}

TEST_F(RequestOutputTest, WhenTheTimeIsOverWhatIsKnownOfThePromptIsTold) {
  request_.response.num_prompt_logprobs = 0;
  RequestOutput output = MakeOutput();
  output.Report(0, PromptLogprobs({kHello}, 0));
  const GenerationDelta delta = output.Finish(0, kCachedTokens);
  ASSERT_TRUE(delta.prompt);
  EXPECT_EQ(delta.prompt->prompt_tokens, 3);
  EXPECT_THAT(Ids(delta.prompt->logprobs), ElementsAre(kHello));
  EXPECT_THAT(delta.token_ids, IsEmpty());
}

TEST_F(RequestOutputTest, AnEchoComesFirstInEveryContinuationAndOnce) {
  request_.sampling.n = 2;
  request_.response.echo = true;
  RequestOutput output = MakeOutput();
  for (const int32_t choice : {1, 0}) {
    const GenerationDelta first = Append(output, choice, kExclamation);
    EXPECT_EQ(first.text, " Hello world!") << choice;
    EXPECT_THAT(first.token_ids, ElementsAre(kBos, kHello, kWorld, kExclamation)) << choice;
    EXPECT_THAT(first.logprobs, IsEmpty()) << choice;
    const GenerationDelta second = Append(output, choice, kWorld);
    EXPECT_EQ(second.text, " world") << choice;
    EXPECT_THAT(second.token_ids, ElementsAre(kWorld)) << choice;
    EXPECT_EQ(output.completion_tokens(choice), 2) << "the prompt does not count";
  }
}

TEST_F(RequestOutputTest, TheEchoShowsSpecialTokensWhereTheyAreNotSkipped) {
  request_.response.echo = true;
  request_.response.skip_special_tokens = false;
  RequestOutput output = MakeOutput();
  EXPECT_EQ(Append(output, 0, kExclamation).text, "<s> Hello world!");
}

TEST_F(RequestOutputTest, ACodePointThatThePromptLeavesUnfinishedIsWholeInTheEcho) {
  request_.prompt_token_ids = {kBos, kHello, TinyByte(0xE2), TinyByte(0x82)};
  request_.response.echo = true;
  RequestOutput finished = MakeOutput();
  EXPECT_EQ(Append(finished, 0, TinyByte(0xAC)).text, " Hello\xE2\x82\xAC");
  RequestOutput unfinished = MakeOutput();
  EXPECT_EQ(Append(unfinished, 0, kExclamation).text, " Hello\xEF\xBF\xBD\xEF\xBF\xBD!");
}

TEST_F(RequestOutputTest, AnEchoWithoutTextHasIdsOnly) {
  request_.response.echo = true;
  request_.response.text = false;
  ASSERT_FALSE(RequestOutput::NeedsTokenizer(request_));
  RequestOutput output(request_, nullptr);
  const GenerationDelta delta = Append(output, 0, kExclamation);
  EXPECT_EQ(delta.text, "");
  EXPECT_THAT(delta.token_ids, ElementsAre(kBos, kHello, kWorld, kExclamation));
}

TEST_F(RequestOutputTest, StopStringsAreNotLookedForInTheEcho) {
  request_.response.echo = true;
  request_.stopping.stop_strings = {"world", "d!"};
  RequestOutput output = MakeOutput();
  EXPECT_EQ(Append(output, 0, kExclamation).text, " Hello world!");
  EXPECT_FALSE(output.matched_stop_string(0)) << "neither in it nor out of it";
  EXPECT_EQ(Append(output, 0, kWorld).text, " ");
  EXPECT_EQ(output.matched_stop_string(0), "world");
}

TEST_F(RequestOutputTest, ThePromptsLogprobsGoWhereTheyWereAskedFor) {
  struct LogprobsCase {
    bool echo;
    int32_t num_logprobs;
    int32_t num_prompt_logprobs;
    std::optional<int32_t> num_reported;
    std::vector<size_t> reported_tops;  // of the prompt but its first token
    std::vector<size_t> delta_tops;     // of the first delta
  };
  const std::vector<LogprobsCase> cases = {
      {false, -1, -1, {}, {}, {}},         {false, 2, -1, {}, {}, {2}},
      {false, -1, 3, {}, {3, 3}, {}},      {false, 2, 3, {}, {3, 3}, {2}},
      {true, -1, 3, {}, {3, 3}, {}},       {true, 2, 2, -1, {}, {2, 2, 2}},
      {true, 0, 0, -1, {}, {0, 0, 2}},  // the worker gives what was asked: cut are the prompt's
      {true, 1, 3, {}, {3, 3}, {1, 1, 2}}, {true, 2, 2, 0, {0, 0}, {2, 2, 2}},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    const LogprobsCase& c = cases[i];
    request_.response.echo = c.echo;
    request_.response.num_logprobs = c.num_logprobs;
    request_.response.num_prompt_logprobs = c.num_prompt_logprobs;
    request_.response.num_reported_prompt_logprobs = c.num_reported;
    RequestOutput output = MakeOutput();
    if (c.num_prompt_logprobs >= 0) {
      output.Report(0, PromptLogprobs({kHello, kWorld}, c.num_prompt_logprobs));
    }
    const GenerationDelta delta = Append(output, 0, kExclamation);
    EXPECT_EQ(TopSizes(delta.prompt->logprobs), c.reported_tops) << "case " << i;
    EXPECT_EQ(TopSizes(delta.logprobs), c.delta_tops) << "case " << i;
    if (delta.logprobs.size() == 3) {
      EXPECT_THAT(Ids(delta.logprobs), ElementsAre(kHello, kWorld, kExclamation)) << "case " << i;
    }
  }
}

TEST_F(RequestOutputTest, EveryContinuationEchoesTheLogprobs) {
  request_.sampling.n = 3;
  request_.response.echo = true;
  request_.response.num_logprobs = 1;
  request_.response.num_prompt_logprobs = 1;
  RequestOutput output = MakeOutput();
  output.Report(0, PromptLogprobs({kHello, kWorld}, 1));
  for (const int32_t choice : {0, 1, 2}) {
    EXPECT_THAT(Ids(Append(output, choice, kExclamation).logprobs),
                ElementsAre(kHello, kWorld, kExclamation))
        << choice;
  }
}

TEST_F(RequestOutputTest, AContinuationWithoutATokenIsTheEchoAlone) {
  request_.response.echo = true;
  RequestOutput output = MakeOutput();
  const GenerationDelta delta = output.Finish(0, kCachedTokens);
  EXPECT_EQ(delta.text, " Hello world");
  EXPECT_THAT(delta.token_ids, ElementsAre(kBos, kHello, kWorld));
}

TEST_F(RequestOutputTest, ExpertsComeWithTheNextDeltaOfTheirContinuation) {
  request_.sampling.n = 2;
  request_.response.routed_experts = true;
  RequestOutput output = MakeOutput();
  output.Report(0, Experts({1, 2}));
  output.Report(0, Experts({3}));
  EXPECT_THAT(Append(output, 1, kExclamation).routed_experts, IsEmpty())
      << "the prompt's are told once, with choice 0";
  EXPECT_THAT(Append(output, 0, kExclamation).routed_experts, ElementsAre(1, 2, 3));
  output.Report(1, Experts({4}));
  output.Report(0, Experts({5}));
  EXPECT_THAT(Append(output, 0, kExclamation).routed_experts, ElementsAre(5));
  EXPECT_THAT(Append(output, 0, kExclamation).routed_experts, IsEmpty());
  EXPECT_THAT(output.Finish(1, 0).routed_experts, ElementsAre(4));
}

TEST_F(RequestOutputTest, ExpertsThatNobodyAskedForAreNotTold) {
  RequestOutput output = MakeOutput();
  output.Report(0, Experts({1, 2}));
  EXPECT_THAT(Append(output, 0, kExclamation).routed_experts, IsEmpty());
}

using RequestOutputDeathTest = RequestOutputTest;

TEST_F(RequestOutputDeathTest, LogprobsOfThePromptHaveNoGapAndComeOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  request_.response.num_prompt_logprobs = 0;
  RequestOutput output = MakeOutput();
  output.Report(0, PromptLogprobs({kHello}, 0));
  EXPECT_DEATH(Append(output, 0, kExclamation), "before the log probabilities of its prompt");
  output.Report(0, PromptLogprobs({kWorld}, 0));
  EXPECT_DEATH(output.Report(0, PromptLogprobs({kWorld}, 0)), "more log probabilities than tokens");
}

}  // namespace
}  // namespace moed
