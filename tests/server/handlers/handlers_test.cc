// The services without a transport.
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/handlers/expert_handler.h"
#include "server/handlers/generation_messages.h"
#include "server/handlers/model_handler.h"
#include "server/handlers/tokenizer_handler.h"
#include "tests/server/support/fake_engine.h"
#include "tests/server/support/outputs.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Serving MakeServing(bool with_tokenizer = true) {
  auto engine = std::make_shared<FakeEngine>();
  EngineStats stats;
  stats.total_kv_blocks = {10, 10};
  stats.free_kv_blocks = {10, 7};
  stats.num_layers = 2;
  stats.num_experts = 4;
  stats.expert_tokens = {6, 2, 0, 0, 0, 0, 0, 0};
  engine->SetStats(std::move(stats));
  return {MakeServedModel(with_tokenizer), engine};
}

TEST(TokenizerHandlerTest, GivesIdsAndTheBytesTheyStandFor) {
  const auto model = MakeServedModel();
  v1::TokenizeRequest request;
  request.set_text("ab c");
  request.set_include_offsets(true);
  const auto response = Tokenize(request, *model);
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->token_ids_size(), response->offsets_size());
  EXPECT_EQ(response->token_ids(0), 1U);
  std::string covered;
  for (const v1::TokenOffset& offset : response->offsets()) {
    covered += request.text().substr(offset.begin(), offset.end() - offset.begin());
  }
  EXPECT_EQ(covered, "ab c");

  request.set_add_special_tokens(false);
  request.set_include_offsets(false);
  const auto bare = Tokenize(request, *model);
  EXPECT_EQ(bare->token_ids_size(), response->token_ids_size() - 1);
  EXPECT_EQ(bare->offsets_size(), 0);
}

TEST(TokenizerHandlerTest, GivesOffsetsOfTextsUpToALimit) {
  const auto model = MakeServedModel();
  v1::TokenizeRequest request;
  request.set_include_offsets(true);
  request.set_text(std::string(kMaxOffsetsTextBytes, 'x'));
  EXPECT_TRUE(Tokenize(request, *model).ok());
  request.mutable_text()->push_back('x');
  const absl::Status status = Tokenize(request, *model).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), StartsWith("text must have at most 1048576 bytes"));
  request.set_include_offsets(false);
  EXPECT_TRUE(Tokenize(request, *model).ok());
}

TEST(TokenizerHandlerTest, DecodesWhatItEncoded) {
  const auto model = MakeServedModel();
  v1::TokenizeRequest encode;
  encode.set_text("ab\xC3\xA4");
  v1::DetokenizeRequest decode;
  decode.mutable_token_ids()->CopyFrom(Tokenize(encode, *model)->token_ids());
  EXPECT_EQ(Detokenize(decode, *model)->text(), encode.text());
  decode.set_skip_special_tokens(false);
  EXPECT_THAT(Detokenize(decode, *model)->text(), HasSubstr("<s>"));
}

TEST(TokenizerHandlerTest, NamesTheIdOutsideTheVocabulary) {
  const auto model = MakeServedModel();
  v1::DetokenizeRequest request;
  request.add_token_ids(1);
  request.add_token_ids(static_cast<uint32_t>(model->tokenizer->vocab_size()));
  const absl::Status status = Detokenize(request, *model).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token_ids[1]"));
}

TEST(TokenizerHandlerTest, RefusesEverythingWithoutATokenizer) {
  const auto model = MakeServedModel(/*with_tokenizer=*/false);
  EXPECT_TRUE(absl::IsFailedPrecondition(Tokenize({}, *model).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(Detokenize({}, *model).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(RenderChat({}, *model, {}).status()));
}

TEST(ModelHandlerTest, AddsUpTheBlocksOfAllRanks) {
  const auto response = GetModel({}, MakeServing(), {});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->kv_cache().total_blocks(), 20U);
  EXPECT_EQ(response->kv_cache().free_blocks(), 17U);
  EXPECT_EQ(response->kv_cache().block_tokens(), 16U);
  EXPECT_EQ(response->model().limits().context_tokens(), 32U);
  EXPECT_EQ(response->model().tokenizer().bos_token_id(), 1U);
  EXPECT_EQ(response->model().tokenizer().chat_format(), "mistral-v1");
}

TEST(ModelHandlerTest, SaysThatThereIsNoTokenizer) {
  const auto response = GetModel({}, MakeServing(/*with_tokenizer=*/false), {});
  EXPECT_FALSE(response->model().has_tokenizer());
}

TEST(ModelHandlerTest, ListsTheOneModel) {
  const auto response = ListModels(*MakeServedModel(), {});
  ASSERT_EQ(response.models_size(), 1);
  EXPECT_EQ(response.models(0).name(), "test-model");
}

TEST(ModelHandlerTest, RefusesAnotherName) {
  v1::GetModelRequest request;
  request.set_model("other");
  EXPECT_TRUE(absl::IsNotFound(GetModel(request, MakeServing(), {}).status()));
}

TEST(ExpertHandlerTest, SummarisesEachLayer) {
  const auto response = GetExpertLoad({}, MakeServing());
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->layers_size(), 2);
  const v1::LayerExpertLoad& busy = response->layers(0);
  EXPECT_THAT(busy.tokens(), ElementsAre(6U, 2U, 0U, 0U));
  EXPECT_THAT(busy.share(), ElementsAre(0.75, 0.25, 0.0, 0.0));
  EXPECT_DOUBLE_EQ(busy.max_over_mean(), 3.0);
  EXPECT_EQ(busy.dead_experts(), 2U);
  EXPECT_EQ(response->experts_per_token(), 2U);
  EXPECT_EQ(response->layers(1).layer(), 1U);
}

AdmittedRequest Admitted() {
  AdmittedRequest admitted;
  admitted.request.request_id = "r";
  admitted.request.prompt_token_ids = {1, 2, 3};
  return admitted;
}

TEST(GenerationMessagesTest, NumbersMessagesAndDescribesThePromptOnce) {
  GenerationMessages messages(Admitted(), 2);
  const auto first = messages.Next(MakeDelta("a", {5}), nullptr);
  EXPECT_EQ(first.sequence(), 0U);
  EXPECT_EQ(first.prompt().prompt_tokens(), 3U);
  EXPECT_EQ(first.text_delta(), "a");
  EXPECT_EQ(first.token_ids_size(), 0);
  EXPECT_FALSE(first.has_finish());
  const auto second = messages.Next(MakeDelta("b"), nullptr);
  EXPECT_EQ(second.sequence(), 1U);
  EXPECT_FALSE(second.has_prompt());
  EXPECT_EQ(second.request_id(), "r");
}

TEST(GenerationMessagesTest, SendsWhatWasAskedForOnly) {
  AdmittedRequest admitted = Admitted();
  admitted.send_text = false;
  admitted.send_token_ids = true;
  GenerationMessages messages(admitted, 2);
  GenerationDelta delta = MakeDelta("a", {5, 6});
  delta.logprobs = {{.token_id = 5, .logprob = -0.5F, .top = {{5, -0.5F}, {9, -1.5F}}}};
  const auto message = messages.Next(delta, nullptr);
  EXPECT_EQ(message.text_delta(), "");
  EXPECT_THAT(message.token_ids(), ElementsAre(5U, 6U));
  ASSERT_EQ(message.logprobs_size(), 1);
  EXPECT_EQ(message.logprobs(0).token_id(), 5U);
  ASSERT_EQ(message.logprobs(0).top_size(), 2);
  EXPECT_EQ(message.logprobs(0).top(1).token_id(), 9U);
  EXPECT_EQ(message.logprobs(0).top(1).logprob(), -1.5F);
}

TEST(GenerationMessagesTest, SaysWhyItEnded) {
  GenerationFinish finish;
  finish.reason = FinishReason::kStop;
  finish.matched_stop_string = "###";
  finish.matched_token_id = 4;
  finish.prompt_tokens = 3;
  finish.completion_tokens = 5;
  finish.first_token_seconds = 1;
  finish.total_seconds = 3;
  GenerationMessages messages(Admitted(), 2);
  const v1::GenerationFinish result = messages.Next({}, &finish).finish();
  EXPECT_EQ(result.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(result.stop_string(), "###");
  EXPECT_EQ(result.usage().completion_tokens(), 5U);
  EXPECT_DOUBLE_EQ(result.timing().mean_inter_token_seconds(), 0.5);
  EXPECT_EQ(result.experts_per_token(), 2U);

  finish.reason = FinishReason::kLength;
  finish.matched_stop_string.clear();
  finish.matched_token_id = -1;
  finish.completion_tokens = 1;
  const v1::GenerationFinish length = messages.Next({}, &finish).finish();
  EXPECT_EQ(length.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(length.matched_case(), v1::GenerationFinish::MATCHED_NOT_SET);
  EXPECT_EQ(length.timing().mean_inter_token_seconds(), 0);
}

TEST(GenerationMessagesTest, TheUnaryAnswerIsTheStreamJoined) {
  AdmittedRequest admitted = Admitted();
  admitted.send_token_ids = true;
  GenerationMessages messages(admitted, 2);
  GenerationFinish finish;
  v1::GenerateResponse response;
  AppendToResponse(messages.Next(MakeDelta("a", {5}), nullptr), &response);
  AppendToResponse(messages.Next(MakeDelta("b", {6}), &finish), &response);
  EXPECT_EQ(response.request_id(), "r");
  EXPECT_EQ(response.prompt().prompt_tokens(), 3U);
  ASSERT_EQ(response.continuations_size(), 1);
  EXPECT_EQ(response.continuations(0).text(), "ab");
  EXPECT_THAT(response.continuations(0).token_ids(), ElementsAre(5U, 6U));
  EXPECT_TRUE(response.continuations(0).has_finish());
}

}  // namespace
}  // namespace moed
