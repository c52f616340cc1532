#include "server/admission/request_validator.h"

#include <chrono>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/admission/bad_words.h"
#include "server/errors/error_details.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RequestValidatorTest : public ::testing::Test {
 protected:
  absl::StatusOr<AdmittedRequest> Admit() const { return validator_.Admit(request_, *model_); }
  AdmittedRequest Admitted() const {
    absl::StatusOr<AdmittedRequest> admitted = Admit();
    EXPECT_TRUE(admitted.ok()) << admitted.status();
    return admitted.ok() ? *std::move(admitted) : AdmittedRequest();
  }
  void ExpectError(absl::StatusCode code, const std::string& text) const {
    const absl::Status status = Admit().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
  void WithIds(int count) {
    for (int i = 0; i < count; ++i) request_.mutable_token_ids()->add_ids(3);
  }

  std::shared_ptr<ServedModel> model_ = MakeServedModel();
  RequestValidator validator_{{}, [] { return uint64_t{0xabc}; }};
  v1::GenerateRequest request_;
};

TEST_F(RequestValidatorTest, EncodesTextWithTheBeginningOfSequence) {
  request_.set_text("ab");
  const AdmittedRequest admitted = Admitted();
  EXPECT_EQ(admitted.request.prompt_token_ids, model_->tokenizer->Encode("ab", {.add_bos = true}));
  EXPECT_EQ(admitted.request.prompt_token_ids.front(), model_->tokenizer->bos_id());
  EXPECT_TRUE(admitted.send_text);
  EXPECT_FALSE(admitted.send_token_ids);
}

TEST_F(RequestValidatorTest, TakesTokenIdsAsTheyAre) {
  for (const uint32_t id : {7U, 0U, 299U}) request_.mutable_token_ids()->add_ids(id);
  EXPECT_THAT(Admitted().request.prompt_token_ids, ElementsAre(7, 0, 299));
}

TEST_F(RequestValidatorTest, RendersAChatInTheModelsFormat) {
  v1::ChatMessage* message = request_.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("ab");
  model_->context_tokens = 100;
  const auto rendered = model_->chat_format->Render(std::vector<ChatMessage>{{"user", "ab"}});
  EXPECT_EQ(Admitted().request.prompt_token_ids, rendered->ids);
}

TEST_F(RequestValidatorTest, NamesTheChatMessageAtFault) {
  v1::ChatMessage* message = request_.mutable_chat()->add_messages();
  message->set_role("robot");
  ExpectError(absl::StatusCode::kInvalidArgument, "chat.messages[0].role");
}

TEST_F(RequestValidatorTest, RefusesAMissingPrompt) {
  ExpectError(absl::StatusCode::kInvalidArgument, "prompt");
}

TEST_F(RequestValidatorTest, SaysLimitAndLengthOfAPromptThatIsTooLong) {
  WithIds(40);
  ExpectError(absl::StatusCode::kInvalidArgument, "the prompt has 40 tokens, the context is 32");
  EXPECT_EQ(ReasonOf(Admit().status()), "PROMPT_TOO_LONG");
}

TEST_F(RequestValidatorTest, RefusesAnotherModelsName) {
  WithIds(1);
  request_.set_model("test-model");
  EXPECT_TRUE(Admit().ok());
  request_.set_model("gpt");
  ExpectError(absl::StatusCode::kNotFound, "model");
}

TEST_F(RequestValidatorTest, WithoutTokenizerTakesIdsOnly) {
  model_ = MakeServedModel(/*with_tokenizer=*/false);
  WithIds(1);
  const AdmittedRequest admitted = Admitted();
  EXPECT_FALSE(admitted.send_text);
  EXPECT_TRUE(admitted.send_token_ids);
  EXPECT_FALSE(admitted.request.response.text);

  request_.mutable_response()->set_text(true);
  ExpectError(absl::StatusCode::kFailedPrecondition, "response.text");
  request_.clear_response();
  request_.mutable_stopping()->add_stop_strings("x");
  ExpectError(absl::StatusCode::kFailedPrecondition, "stopping.stop_strings");
  request_.clear_stopping();
  request_.mutable_sampling()->add_bad_words("x");
  ExpectError(absl::StatusCode::kFailedPrecondition, "sampling.bad_words");
  request_.clear_sampling();
  request_.set_text("ab");
  ExpectError(absl::StatusCode::kFailedPrecondition, "text");
  request_.mutable_chat();
  ExpectError(absl::StatusCode::kFailedPrecondition, "chat");
}

TEST_F(RequestValidatorTest, TakesUnsetSamplingFromTheModel) {
  model_->defaults.temperature = 0.25F;
  model_->defaults.top_k = 9;
  model_->defaults.top_p = 0.5F;
  model_->defaults.min_p = 0.125F;
  WithIds(1);
  SamplingParams sampling = Admitted().request.sampling;
  EXPECT_EQ(sampling.temperature, 0.25F);
  EXPECT_EQ(sampling.top_k, 9);
  EXPECT_EQ(sampling.top_p, 0.5F);
  EXPECT_EQ(sampling.min_p, 0.125F);
  EXPECT_EQ(sampling.seed, 0xabcU);

  // Zeros that a client sets are its own.
  request_.mutable_sampling()->set_temperature(0);
  request_.mutable_sampling()->set_top_k(0);
  request_.mutable_sampling()->set_min_p(0);
  request_.mutable_sampling()->set_seed(0);
  sampling = Admitted().request.sampling;
  EXPECT_EQ(sampling.temperature, 0.0F);
  EXPECT_EQ(sampling.top_k, 0);
  EXPECT_EQ(sampling.min_p, 0.0F);
  EXPECT_EQ(sampling.seed, 0U);
}

TEST_F(RequestValidatorTest, WhatIsNotAskedForChangesNothing) {
  WithIds(1);
  const GenerationRequest request = Admitted().request;
  EXPECT_EQ(request.sampling.n, 1);
  EXPECT_EQ(request.sampling.typical_p, 1.0F);
  EXPECT_EQ(request.sampling.presence_penalty, 0.0F);
  EXPECT_EQ(request.sampling.frequency_penalty, 0.0F);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.0F);
  EXPECT_THAT(request.sampling.logit_bias, IsEmpty());
  EXPECT_THAT(request.sampling.allowed_token_ids, IsEmpty());
  EXPECT_THAT(request.sampling.bad_words, IsEmpty());
  EXPECT_FALSE(request.stopping.include_stop);
  EXPECT_FALSE(request.stopping.time_limit.has_value());
  EXPECT_EQ(request.response.num_prompt_logprobs, -1);
  EXPECT_FALSE(request.response.num_reported_prompt_logprobs.has_value());
  EXPECT_FALSE(request.response.echo);
  EXPECT_TRUE(request.response.skip_special_tokens);
  EXPECT_FALSE(request.response.routed_experts);
  EXPECT_EQ(request.experts_per_token, 0);
  EXPECT_EQ(request.scheduling.priority, 0);
  EXPECT_FALSE(request.scheduling.home_rank.has_value());
  EXPECT_FALSE(request.cache.bypass);
  EXPECT_EQ(request.cache.salt, "");
}

TEST_F(RequestValidatorTest, HandsOnHowTokensAreDrawn) {
  WithIds(1);
  v1::SamplingParams* sampling = request_.mutable_sampling();
  sampling->set_n(3);
  sampling->set_typical_p(0.75F);
  sampling->set_presence_penalty(0.5F);
  sampling->set_frequency_penalty(-0.5F);
  sampling->set_repetition_penalty(1.25F);
  for (const uint32_t id : {7U, 2U, 7U, 5U}) sampling->add_allowed_token_ids(id);
  for (const uint32_t id : {9U, 1U, 200U}) (*sampling->mutable_logit_bias())[id] = 0.5F * id;
  sampling->add_bad_words("ab");
  const SamplingParams result = Admitted().request.sampling;
  EXPECT_EQ(result.n, 3);
  EXPECT_EQ(result.typical_p, 0.75F);
  EXPECT_EQ(result.presence_penalty, 0.5F);
  EXPECT_EQ(result.frequency_penalty, -0.5F);
  EXPECT_EQ(result.repetition_penalty, 1.25F);
  EXPECT_THAT(result.allowed_token_ids, ElementsAre(2, 5, 7));
  ASSERT_EQ(result.logit_bias.size(), 3U);
  EXPECT_EQ(result.logit_bias[0].token_id, 1);
  EXPECT_EQ(result.logit_bias[2].token_id, 200);
  EXPECT_EQ(result.logit_bias[2].bias, 100.0F);
  EXPECT_EQ(result.bad_words, EncodeBadWord("ab", *model_->tokenizer));
}

TEST_F(RequestValidatorTest, BiasesAsManyTokensAsTheLimit) {
  model_->config.vocab_size = 2000;
  WithIds(1);
  for (uint32_t id = 0; id < 1024; ++id) (*request_.mutable_sampling()->mutable_logit_bias())[id];
  EXPECT_EQ(Admitted().request.sampling.logit_bias.size(), 1024U);
  (*request_.mutable_sampling()->mutable_logit_bias())[1024];
  ExpectError(absl::StatusCode::kInvalidArgument, "sampling.logit_bias has 1025 entries");
}

TEST_F(RequestValidatorTest, HandsOnTheOtherGroups) {
  model_->num_ranks = 4;
  WithIds(1);
  request_.mutable_stopping()->set_include_stop(true);
  request_.mutable_stopping()->set_time_limit_ms(1500);
  request_.mutable_response()->set_skip_special_tokens(false);
  request_.mutable_moe()->set_experts_per_token(1);
  request_.mutable_scheduling()->set_priority(-7);
  request_.mutable_scheduling()->set_home_rank(3);
  request_.mutable_cache()->set_bypass(true);
  request_.mutable_cache()->set_salt("pepper");
  const GenerationRequest request = Admitted().request;
  EXPECT_TRUE(request.stopping.include_stop);
  EXPECT_EQ(request.stopping.time_limit, std::chrono::milliseconds(1500));
  EXPECT_FALSE(request.response.skip_special_tokens);
  EXPECT_EQ(request.experts_per_token, 1);
  EXPECT_EQ(request.scheduling.priority, -7);
  EXPECT_EQ(request.scheduling.home_rank, 3);
  EXPECT_TRUE(request.cache.bypass);
  EXPECT_EQ(request.cache.salt, "pepper");
  request_.mutable_scheduling()->set_home_rank(4);
  ExpectError(absl::StatusCode::kInvalidArgument, "scheduling.home_rank must be in [0, 3], got 4");
}

TEST_F(RequestValidatorTest, AnEchoWithLogprobsNeedsThoseOfThePrompt) {
  WithIds(2);
  v1::ResponseOptions* response = request_.mutable_response();
  response->set_echo(true);
  EXPECT_EQ(Admitted().request.response.num_prompt_logprobs, -1);
  response->set_logprobs(3);
  EXPECT_EQ(Admitted().request.response.num_prompt_logprobs, 3);
  EXPECT_EQ(Admitted().request.response.num_reported_prompt_logprobs, -1);
  response->set_prompt_logprobs(1);
  EXPECT_EQ(Admitted().request.response.num_prompt_logprobs, 3);
  EXPECT_EQ(Admitted().request.response.num_reported_prompt_logprobs, 1);
  response->set_prompt_logprobs(5);
  EXPECT_EQ(Admitted().request.response.num_prompt_logprobs, 5);
  EXPECT_EQ(Admitted().request.response.num_reported_prompt_logprobs.value_or(5), 5);
}

TEST_F(RequestValidatorTest, RoutedExpertsAreTheOperatorsToAllow) {
  WithIds(1);
  request_.mutable_response()->set_routed_experts(false);
  EXPECT_TRUE(Admit().ok());
  request_.mutable_response()->set_routed_experts(true);
  ExpectError(absl::StatusCode::kPermissionDenied, "response.routed_experts");
  ExpectError(absl::StatusCode::kPermissionDenied, "--allow-routed-experts");
  EXPECT_EQ(ReasonOf(Admit().status()), "FEATURE_OFF");
  RequestLimits limits;
  limits.routed_experts = true;
  const RequestValidator validator(limits, [] { return 7; });
  const auto admitted = validator.Admit(request_, *model_);
  ASSERT_TRUE(admitted.ok()) << admitted.status();
  EXPECT_TRUE(admitted->request.response.routed_experts);
}

TEST_F(RequestValidatorTest, ClipsMaxTokensToTheRoomOfTheContext) {
  WithIds(30);
  EXPECT_EQ(Admitted().request.stopping.max_tokens, 3);
  request_.mutable_stopping()->set_max_tokens(1000);
  request_.mutable_stopping()->set_min_tokens(900);
  EXPECT_EQ(Admitted().request.stopping.max_tokens, 3);
  EXPECT_EQ(Admitted().request.stopping.min_tokens, 3);
  request_.mutable_stopping()->set_min_tokens(0);
  request_.mutable_stopping()->set_max_tokens(2);
  EXPECT_EQ(Admitted().request.stopping.max_tokens, 2);
}

TEST_F(RequestValidatorTest, APromptThatFillsTheContextGetsOneToken) {
  WithIds(kTestContext);
  EXPECT_EQ(Admitted().request.stopping.max_tokens, 1);
}

TEST_F(RequestValidatorTest, AppliesTheDefaultLengthWithinTheRoom) {
  RequestLimits limits;
  limits.default_max_tokens = 5;
  const RequestValidator validator(limits, [] { return 7; });
  WithIds(1);
  EXPECT_EQ(validator.Admit(request_, *model_)->request.stopping.max_tokens, 5);
  request_.mutable_stopping()->set_min_tokens(8);
  EXPECT_EQ(validator.Admit(request_, *model_)->request.stopping.max_tokens, 8);
}

TEST_F(RequestValidatorTest, EndsAtTheModelsEndOfSequenceUnlessTold) {
  WithIds(1);
  EXPECT_THAT(Admitted().request.stopping.eos_token_ids, ElementsAre(kTinyEos));
  model_->defaults.eos_token_ids = {11, 12};
  EXPECT_THAT(Admitted().request.stopping.eos_token_ids, ElementsAre(11, 12));
  request_.mutable_stopping()->set_ignore_eos(true);
  EXPECT_THAT(Admitted().request.stopping.eos_token_ids, IsEmpty());
}

TEST_F(RequestValidatorTest, StopStringsNeedTextInsideEvenWhereNoneIsSent) {
  WithIds(1);
  request_.mutable_response()->set_text(false);
  EXPECT_FALSE(Admitted().request.response.text);
  request_.mutable_stopping()->add_stop_strings("x");
  const AdmittedRequest admitted = Admitted();
  EXPECT_TRUE(admitted.request.response.text);
  EXPECT_FALSE(admitted.send_text);
  EXPECT_TRUE(admitted.send_token_ids);
}

TEST_F(RequestValidatorTest, MakesARequestIdWhereTheClientGaveNone) {
  WithIds(1);
  EXPECT_EQ(Admitted().request.request_id, "req-0000000000000abc");
  request_.set_request_id("mine");
  EXPECT_EQ(Admitted().request.request_id, "mine");
}

TEST_F(RequestValidatorTest, LeavesLogprobsOffUntilAskedFor) {
  WithIds(1);
  EXPECT_EQ(Admitted().request.response.num_logprobs, -1);
  request_.mutable_response()->set_logprobs(0);
  EXPECT_EQ(Admitted().request.response.num_logprobs, 0);
}

}  // namespace
}  // namespace moed
