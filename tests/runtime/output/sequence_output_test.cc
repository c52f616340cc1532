#include "runtime/output/sequence_output.h"

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

// Ids of the pieces below.
constexpr int32_t kHello = kTinyFirstPiece;   // "Hello"
constexpr int32_t kSpaceSt = kHello + 1;      // " ST"
constexpr int32_t kOp = kHello + 2;           // "OP"
constexpr int32_t kExclamation = kHello + 3;  // "!"

class SequenceOutputTest : public ::testing::Test {
 protected:
  SequenceOutputTest() : tokenizer_(MakeTinyTokenizer({"Hello", "\xE2\x96\x81ST", "OP", "!"})) {
    request_.prompt_token_ids = {1, kHello};
    request_.stopping.max_tokens = 100;
  }

  SequenceOutput MakeOutput() const { return SequenceOutput(request_, tokenizer_.get()); }
  static GenerationDelta Append(SequenceOutput& output, int32_t token, Last last = Last::kNo) {
    return output.Append({0, token, -0.5F, {{token, -0.5F}, {7, -2.0F}}}, last);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  GenerationRequest request_;
};

TEST_F(SequenceOutputTest, GivesTextAndIdsTokenByToken) {
  SequenceOutput output = MakeOutput();
  const GenerationDelta delta = Append(output, kHello);
  EXPECT_EQ(delta.text, "Hello");
  EXPECT_THAT(delta.token_ids, ElementsAre(kHello));
  EXPECT_THAT(delta.logprobs, IsEmpty());
  EXPECT_EQ(Append(output, kSpaceSt).text, " ST");
  EXPECT_EQ(output.completion_tokens(), 2);
}

TEST_F(SequenceOutputTest, NeverGivesHalfACodePoint) {
  SequenceOutput output = MakeOutput();
  EXPECT_EQ(Append(output, TinyByte(0xE2)).text, "");
  EXPECT_EQ(Append(output, TinyByte(0x82)).text, "");
  EXPECT_EQ(Append(output, TinyByte(0xAC)).text, "\xE2\x82\xAC");
  EXPECT_EQ(Append(output, TinyByte(0xE2)).text, "");
  EXPECT_EQ(Append(output, TinyByte(0x82), Last::kYes).text, "\xEF\xBF\xBD\xEF\xBF\xBD")
      << "at the end each byte without its code point is U+FFFD";
}

TEST_F(SequenceOutputTest, AStopStringAcrossTokensEndsTheTextBeforeIt) {
  request_.stopping.stop_strings = {"STOP"};
  SequenceOutput output = MakeOutput();
  EXPECT_EQ(Append(output, kHello).text, "Hello");
  EXPECT_EQ(Append(output, kSpaceSt).text, " ");
  const GenerationDelta last = Append(output, kOp);
  EXPECT_EQ(last.text, "");
  EXPECT_THAT(last.token_ids, ElementsAre(kOp));
  EXPECT_EQ(output.matched_stop_string(), "STOP");
  EXPECT_EQ(output.completion_tokens(), 3);
}

TEST_F(SequenceOutputTest, HeldTextComesWhenItIsNoMatchAfterAll) {
  request_.stopping.stop_strings = {"STOP"};
  SequenceOutput output = MakeOutput();
  EXPECT_EQ(Append(output, kSpaceSt).text, " ");
  EXPECT_EQ(Append(output, kExclamation).text, "ST!");
  EXPECT_EQ(Append(output, kSpaceSt).text, " ");
  EXPECT_EQ(Append(output, kTinyEos, Last::kYesStopToken).text, "ST") << "held until the end";
  EXPECT_FALSE(output.matched_stop_string());
}

TEST_F(SequenceOutputTest, AStopTokenHasNoTextButCounts) {
  SequenceOutput output = MakeOutput();
  const GenerationDelta last = Append(output, kHello, Last::kYesStopToken);
  EXPECT_EQ(last.text, "");
  EXPECT_THAT(last.token_ids, ElementsAre(kHello));
  EXPECT_EQ(output.completion_tokens(), 1);
}

TEST_F(SequenceOutputTest, StopStringsThatEndWithinMinTokensDoNotCount) {
  request_.stopping.stop_strings = {"STOP"};
  request_.stopping.min_tokens = 2;
  SequenceOutput output = MakeOutput();
  std::string text = Append(output, kSpaceSt).text;
  text += Append(output, kOp).text;
  EXPECT_FALSE(output.matched_stop_string());
  text += Append(output, kSpaceSt).text;
  text += Append(output, kOp).text;
  EXPECT_EQ(output.matched_stop_string(), "STOP");
  EXPECT_EQ(text, " STOP ");
}

TEST_F(SequenceOutputTest, TheLastTokenMayCompleteAStopString) {
  request_.stopping.stop_strings = {"!"};
  SequenceOutput output = MakeOutput();
  EXPECT_EQ(Append(output, kExclamation, Last::kYes).text, "");
  EXPECT_EQ(output.matched_stop_string(), "!");
}

TEST_F(SequenceOutputTest, OfSeveralStopStringsTheOneThatIsCompleteFirstEnds) {
  request_.stopping.stop_strings = {"STOP!", "never", "lo ST"};
  SequenceOutput output = MakeOutput();
  EXPECT_EQ(Append(output, kHello).text, "Hel");
  EXPECT_EQ(Append(output, kSpaceSt).text, "");
  EXPECT_EQ(output.matched_stop_string(), "lo ST");
}

TEST_F(SequenceOutputTest, AStopStringThatBeginsInTheMiddleOfATokenAndEndsInTheMiddleOfAnother) {
  request_.stopping.stop_strings = {"lo SO", "TO"};
  SequenceOutput output = MakeOutput();
  EXPECT_EQ(Append(output, kHello).text, "Hel");
  EXPECT_EQ(Append(output, kSpaceSt).text, "lo S") << "of the second only T is held";
  EXPECT_EQ(Append(output, kOp).text, "");
  EXPECT_EQ(output.matched_stop_string(), "TO") << "what follows in the token is dropped";
}

TEST_F(SequenceOutputTest, IncludeStopEndsTheTextWithTheStopString) {
  request_.stopping.stop_strings = {"STO"};
  request_.stopping.include_stop = true;
  SequenceOutput output = MakeOutput();
  std::string text = Append(output, kSpaceSt).text;
  text += Append(output, kOp).text;
  EXPECT_EQ(text, " STO") << "and not with the rest of the token";
  EXPECT_EQ(output.matched_stop_string(), "STO");
}

TEST_F(SequenceOutputTest, IncludeStopShowsTheStopToken) {
  request_.stopping.include_stop = true;
  SequenceOutput shown = MakeOutput();
  EXPECT_EQ(Append(shown, kHello, Last::kYesStopToken).text, "Hello");
  SequenceOutput special = MakeOutput();
  EXPECT_EQ(Append(special, kTinyEos, Last::kYesStopToken).text, "") << "skipped";
  request_.response.skip_special_tokens = false;
  SequenceOutput unskipped = MakeOutput();
  EXPECT_EQ(Append(unskipped, kTinyEos, Last::kYesStopToken).text, "</s>");
}

TEST_F(SequenceOutputTest, SpecialTokensAreTextWhereTheyAreNotSkipped) {
  request_.stopping.stop_strings = {"<s>"};
  SequenceOutput skipped = MakeOutput();
  EXPECT_EQ(Append(skipped, 1).text, "");
  EXPECT_FALSE(skipped.matched_stop_string()) << "what is not shown is no stop string";
  request_.response.skip_special_tokens = false;
  SequenceOutput shown = MakeOutput();
  EXPECT_EQ(Append(shown, kTinyEos).text, "</s>");
  EXPECT_EQ(Append(shown, 1).text, "");
  EXPECT_EQ(shown.matched_stop_string(), "<s>");
}

TEST_F(SequenceOutputTest, FinishLetsHeldTextThroughWithoutAToken) {
  request_.stopping.stop_strings = {"STOP"};
  SequenceOutput output = MakeOutput();
  Append(output, kSpaceSt);
  const GenerationDelta last = output.Finish();
  EXPECT_EQ(last.text, "ST");
  EXPECT_THAT(last.token_ids, IsEmpty());
  EXPECT_EQ(output.completion_tokens(), 1);
}

TEST_F(SequenceOutputTest, UpToTwentyLogprobsComeAsTheyAreInTheirOrder) {
  request_.response.num_logprobs = 20;
  SequenceOutput output = MakeOutput();
  SampledToken sample = {0, kHello, -9.0F, {}};
  for (int32_t i = 0; i < 20; ++i) sample.top_logprobs.push_back({90 - i, -0.25F * i});
  const GenerationDelta delta = output.Append(sample, Last::kNo);
  ASSERT_EQ(delta.logprobs.size(), 1u);
  EXPECT_EQ(delta.logprobs[0].logprob, -9.0F);
  EXPECT_EQ(delta.logprobs[0].top, sample.top_logprobs);
}

TEST_F(SequenceOutputTest, LogprobsComeWithTheirToken) {
  request_.response.num_logprobs = 2;
  SequenceOutput output = MakeOutput();
  const GenerationDelta delta = Append(output, kHello);
  ASSERT_EQ(delta.logprobs.size(), 1u);
  EXPECT_EQ(delta.logprobs[0].token_id, kHello);
  EXPECT_EQ(delta.logprobs[0].logprob, -0.5F);
  EXPECT_EQ(delta.logprobs[0].top.size(), 2u);
}

TEST_F(SequenceOutputTest, NoneOfTheMostLikelyIsNotNoLogprobs) {
  request_.response.num_logprobs = 0;
  SequenceOutput output = MakeOutput();
  const GenerationDelta delta = output.Append({0, kHello, -0.5F, {}}, Last::kNo);
  ASSERT_EQ(delta.logprobs.size(), 1u);
  EXPECT_THAT(delta.logprobs[0].top, IsEmpty());
}

TEST_F(SequenceOutputTest, WithoutTextAndStopStringsNoTokenizerIsNeeded) {
  request_.response.text = false;
  ASSERT_FALSE(SequenceOutput::NeedsTokenizer(request_));
  SequenceOutput output(request_, nullptr);
  const GenerationDelta delta = Append(output, kHello);
  EXPECT_EQ(delta.text, "");
  EXPECT_THAT(delta.token_ids, ElementsAre(kHello));
}

TEST_F(SequenceOutputTest, StopStringsWorkWithoutText) {
  request_.response.text = false;
  request_.stopping.stop_strings = {"STOP"};
  ASSERT_TRUE(SequenceOutput::NeedsTokenizer(request_));
  SequenceOutput output = MakeOutput();
  EXPECT_EQ(Append(output, kSpaceSt).text, "");
  EXPECT_EQ(Append(output, kOp).text, "");
  EXPECT_EQ(output.matched_stop_string(), "STOP");
}

}  // namespace
}  // namespace moed
