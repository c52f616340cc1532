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

TEST_F(SequenceOutputTest, LogprobsComeWithTheirToken) {
  request_.response.num_logprobs = 2;
  SequenceOutput output = MakeOutput();
  const GenerationDelta delta = Append(output, kHello);
  ASSERT_EQ(delta.logprobs.size(), 1u);
  EXPECT_EQ(delta.logprobs[0].token_id, kHello);
  EXPECT_EQ(delta.logprobs[0].logprob, -0.5F);
  EXPECT_EQ(delta.logprobs[0].top.size(), 2u);
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
