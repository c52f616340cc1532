#include "server/handlers/generation_messages.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/support/outputs.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::ElementsAre;

AdmittedRequest Admitted() {
  AdmittedRequest admitted;
  admitted.request.request_id = "r";
  admitted.request.prompt_token_ids = {1, 2, 3};
  return admitted;
}

class GenerationMessagesTest : public ::testing::Test {
 protected:
  GenerationMessages Messages() const { return {admitted_, *model_}; }

  std::shared_ptr<ServedModel> model_ = MakeServedModel();  // 2 layers, 2 experts for each token
  AdmittedRequest admitted_ = Admitted();
};

TEST_F(GenerationMessagesTest, NumbersMessagesOverAllContinuations) {
  GenerationMessages messages = Messages();
  const auto first = messages.Next(FirstDelta("a", {5}));
  EXPECT_EQ(first.sequence(), 0U);
  EXPECT_EQ(first.index(), 0U);
  EXPECT_EQ(first.prompt().prompt_tokens(), 3U);
  EXPECT_EQ(first.text_delta(), "a");
  EXPECT_EQ(first.token_ids_size(), 0);
  EXPECT_FALSE(first.has_finish());
  EXPECT_FALSE(first.has_routed_experts());
  const auto second = messages.Next(LastDelta("b", 1, /*choice=*/2));
  EXPECT_EQ(second.sequence(), 1U);
  EXPECT_EQ(second.index(), 2U);
  EXPECT_FALSE(second.has_prompt());
  EXPECT_TRUE(second.has_finish());
  EXPECT_EQ(second.request_id(), "r");
}

TEST_F(GenerationMessagesTest, TellsOfThePrompt) {
  GenerationDelta delta = FirstDelta("a");
  delta.prompt->cached_tokens = 2;
  delta.prompt->logprobs = {{.token_id = 2, .logprob = -1, .top = {{7, -0.25F}}},
                            {.token_id = 3, .logprob = -2, .top = {}}};
  const v1::PromptInfo prompt = Messages().Next(delta).prompt();
  EXPECT_EQ(prompt.cached_tokens(), 2U);
  ASSERT_EQ(prompt.prompt_logprobs_size(), 2);
  EXPECT_EQ(prompt.prompt_logprobs(0).token_id(), 2U);
  EXPECT_EQ(prompt.prompt_logprobs(0).top(0).token_id(), 7U);
  EXPECT_EQ(prompt.prompt_logprobs(1).token_id(), 3U);
}

TEST_F(GenerationMessagesTest, SendsWhatWasAskedForOnly) {
  admitted_.send_text = false;
  admitted_.send_token_ids = true;
  GenerationDelta delta = MakeDelta("a", {5, 6});
  delta.logprobs = {{.token_id = 5, .logprob = -0.5F, .top = {{5, -0.5F}, {9, -1.5F}}}};
  const auto message = Messages().Next(delta);
  EXPECT_EQ(message.text_delta(), "");
  EXPECT_THAT(message.token_ids(), ElementsAre(5U, 6U));
  ASSERT_EQ(message.logprobs_size(), 1);
  EXPECT_EQ(message.logprobs(0).token_id(), 5U);
  ASSERT_EQ(message.logprobs(0).top_size(), 2);
  EXPECT_EQ(message.logprobs(0).top(1).token_id(), 9U);
  EXPECT_EQ(message.logprobs(0).top(1).logprob(), -1.5F);
}

TEST_F(GenerationMessagesTest, ShapesTheExpertsOfTokens) {
  admitted_.request.experts_per_token = 3;
  GenerationDelta delta = MakeDelta("a");
  delta.routed_experts = {0, 1, 2, 3, 2, 1, 0, 2, 3, 1, 0, 3};  // two tokens
  const v1::RoutedExperts routed = Messages().Next(delta).routed_experts();
  EXPECT_EQ(routed.num_tokens(), 2U);
  EXPECT_EQ(routed.num_layers(), 2U);
  EXPECT_EQ(routed.experts_per_token(), 3U);
  EXPECT_THAT(routed.expert_ids(), ElementsAre(0, 1, 2, 3, 2, 1, 0, 2, 3, 1, 0, 3));
}

TEST_F(GenerationMessagesTest, SaysWhyItEnded) {
  GenerationDelta delta = MakeDelta("");
  delta.finish = ChoiceFinish{.reason = FinishReason::kStop,
                              .matched_stop_string = "###",
                              .matched_token_id = 4,
                              .prompt_tokens = 3,
                              .completion_tokens = 5,
                              .first_token_seconds = 1,
                              .total_seconds = 3,
                              .usage = {}};
  delta.finish->usage = {.cached_tokens = 2, .num_preemptions = 6, .dropped_pairs = 7};
  const v1::GenerationFinish result = Messages().Next(delta).finish();
  EXPECT_EQ(result.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(result.stop_string(), "###");
  EXPECT_EQ(result.usage().completion_tokens(), 5U);
  EXPECT_EQ(result.usage().cached_tokens(), 2U);
  EXPECT_DOUBLE_EQ(result.timing().mean_inter_token_seconds(), 0.5);
  EXPECT_EQ(result.timing().preemptions(), 6U);
  EXPECT_EQ(result.experts_per_token(), 2U);
  EXPECT_EQ(result.dropped_pairs(), 7U);

  delta.finish->reason = FinishReason::kLength;
  delta.finish->matched_stop_string.clear();
  delta.finish->matched_token_id = -1;
  delta.finish->completion_tokens = 1;
  admitted_.request.experts_per_token = 1;
  const v1::GenerationFinish length = Messages().Next(delta).finish();
  EXPECT_EQ(length.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(length.matched_case(), v1::GenerationFinish::MATCHED_NOT_SET);
  EXPECT_EQ(length.timing().mean_inter_token_seconds(), 0);
  EXPECT_EQ(length.experts_per_token(), 1U);

  delta.finish->reason = FinishReason::kTimeLimit;
  EXPECT_EQ(Messages().Next(delta).finish().reason(), v1::FINISH_REASON_TIME_LIMIT);
}

TEST_F(GenerationMessagesTest, TheUnaryAnswerIsTheStreamJoined) {
  admitted_.send_token_ids = true;
  GenerationMessages messages = Messages();
  GenerationDelta first = FirstDelta("a", {5});
  first.routed_experts = {0, 1, 2, 3};
  GenerationDelta other = MakeDelta("x", {7});
  other.choice = 1;
  GenerationDelta last = LastDelta("b", 2);
  last.token_ids = {6};
  last.routed_experts = {1, 2, 3, 0};
  v1::GenerateResponse response;
  for (const GenerationDelta& delta : {first, other, last, LastDelta("y", 2, /*choice=*/1)}) {
    AppendToResponse(messages.Next(delta), &response);
  }
  EXPECT_EQ(response.request_id(), "r");
  EXPECT_EQ(response.prompt().prompt_tokens(), 3U);
  ASSERT_EQ(response.continuations_size(), 2);
  const v1::Continuation& joined = response.continuations(0);
  EXPECT_EQ(joined.text(), "ab");
  EXPECT_THAT(joined.token_ids(), ElementsAre(5U, 6U));
  EXPECT_EQ(joined.routed_experts().num_tokens(), 2U);
  EXPECT_THAT(joined.routed_experts().expert_ids(), ElementsAre(0, 1, 2, 3, 1, 2, 3, 0));
  EXPECT_TRUE(joined.has_finish());
  EXPECT_EQ(response.continuations(1).index(), 1U);
  EXPECT_EQ(response.continuations(1).text(), "xy");
  EXPECT_FALSE(response.continuations(1).has_routed_experts());
}

TEST_F(GenerationMessagesTest, TheAnswerIsByIndexWhicheverCameFirst) {
  GenerationMessages messages = Messages();
  v1::GenerateResponse response;
  GenerationDelta first = FirstDelta("late");
  first.choice = 2;
  AppendToResponse(messages.Next(first), &response);
  AppendToResponse(messages.Next(LastDelta("early", 1)), &response);
  ASSERT_EQ(response.continuations_size(), 3);
  EXPECT_EQ(response.continuations(0).text(), "early");
  EXPECT_EQ(response.continuations(1).index(), 1U);
  EXPECT_EQ(response.continuations(2).text(), "late");
}

}  // namespace
}  // namespace moed
