// The services without a transport.
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/handlers/model_handler.h"
#include "server/handlers/tokenizer_handler.h"
#include "tests/server/support/fake_engine.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Serving MakeServing(bool with_tokenizer = true) {
  auto engine = std::make_shared<FakeEngine>();
  EngineStats stats;
  stats.total_kv_blocks = {10, 10};
  stats.free_kv_blocks = {10, 7};
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

TEST(ModelHandlerTest, TellsWhatTheEngineHasDone) {
  auto engine = std::make_shared<FakeEngine>();
  EngineStats stats;
  stats.requests_waiting = 1;
  stats.requests_running = 2;
  stats.free_kv_blocks = {10, 7};
  stats.cached_kv_blocks = {4, 5};
  stats.counters = {.steps = 3,
                    .preemptions = 4,
                    .prompt_tokens = 5,
                    .cached_tokens = 6,
                    .recomputed_tokens = 7,
                    .dropped_pairs = 8};
  engine->SetStats(std::move(stats));
  const auto response = GetModel({}, {MakeServedModel(), engine}, {});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->kv_cache().cached_blocks(), 9U);
  const v1::EngineActivity& activity = response->activity();
  EXPECT_EQ(activity.waiting(), 1U);
  EXPECT_EQ(activity.running(), 2U);
  EXPECT_EQ(activity.steps(), 3U);
  EXPECT_EQ(activity.preemptions(), 4U);
  EXPECT_EQ(activity.prompt_tokens(), 5U);
  EXPECT_EQ(activity.cached_tokens(), 6U);
  EXPECT_EQ(activity.recomputed_tokens(), 7U);
  EXPECT_EQ(activity.dropped_pairs(), 8U);
}

TEST(ModelHandlerTest, TellsTheLimitsOfRequests) {
  RequestLimits limits;
  limits.n = 5;
  limits.logit_bias = 6;
  limits.bad_words = 7;
  limits.bad_word_bytes = 8;
  v1::RequestLimits told = GetModel({}, MakeServing(), limits)->model().limits();
  EXPECT_EQ(told.n(), 5U);
  EXPECT_EQ(told.logit_bias(), 6U);
  EXPECT_EQ(told.bad_words(), 7U);
  EXPECT_EQ(told.bad_word_bytes(), 8U);
  EXPECT_EQ(told.experts_per_token(), 2U);
  EXPECT_FALSE(told.routed_experts());
  limits.experts_per_token = 3;
  limits.routed_experts = true;
  told = GetModel({}, MakeServing(), limits)->model().limits();
  EXPECT_EQ(told.experts_per_token(), 3U);
  EXPECT_TRUE(told.routed_experts());
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

}  // namespace
}  // namespace moed
