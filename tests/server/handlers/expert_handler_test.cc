#include "server/handlers/expert_handler.h"

#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/support/fake_engine.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// One rank, two layers of four experts. Three rows of layer 0: token 259 to the experts (0, 1) and
// (0, 2), token 260 to (3, 0); nothing in layer 1.
RankResult ThreeRows() {
  RankResult result;
  result.expert_counts = {3, 1, 1, 1, 0, 0, 0, 0};
  result.dropped_pairs = 5;
  result.repetition = {.num_rows = 2, .same_first = {1, 0}, .any_shared = {2, 0}};
  result.routing.token_ids = {259, 259, 260};
  result.routing.expert_ids = {0, 1, 0, 2, 3, 0, -1, -1, -1, -1, -1, -1};
  return result;
}

class ExpertHandlerTest : public ::testing::Test {
 protected:
  void Start(bool keeps_tokens, bool with_tokenizer = true) {
    const TimePoint now = std::chrono::steady_clock::now();
    RoutingLedgerOptions options{.num_layers = 2, .num_experts = 4, .experts_per_token = 2};
    options.keeps_tokens = keeps_tokens;
    options.vocab = kTestVocab;
    auto ledger = RoutingLedger::Create(options, now - std::chrono::minutes(10));
    ASSERT_TRUE(ledger.ok()) << ledger.status();
    ledger_ = ledger->get();
    auto engine = std::make_shared<FakeEngine>();
    engine->SetRouting(*std::move(ledger));
    serving_ = {MakeServedModel(with_tokenizer), std::move(engine)};
  }
  void Add(std::chrono::seconds ago) {
    RankResult result = ThreeRows();
    const absl::Status status = ledger_->Add({&result, 1}, std::chrono::steady_clock::now() - ago);
    ASSERT_TRUE(status.ok()) << status;
  }

  RoutingLedger* ledger_ = nullptr;
  Serving serving_;
};

TEST_F(ExpertHandlerTest, SummarisesEachLayer) {
  Start(/*keeps_tokens=*/false);
  Add(std::chrono::seconds(0));
  const auto response = GetExpertLoad({}, serving_);
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->layers_size(), 2);
  const v1::LayerExpertLoad& busy = response->layers(0);
  EXPECT_THAT(busy.tokens(), ElementsAre(3U, 1U, 1U, 1U));
  EXPECT_THAT(busy.share(), ElementsAre(0.5, 1.0 / 6, 1.0 / 6, 1.0 / 6));
  EXPECT_DOUBLE_EQ(busy.max_over_mean(), 2.0);
  EXPECT_EQ(busy.dead_experts(), 0U);
  EXPECT_EQ(busy.repetition_tokens(), 2U);
  EXPECT_DOUBLE_EQ(busy.first_repetition(), 0.5);
  EXPECT_DOUBLE_EQ(busy.any_repetition(), 1.0);
  EXPECT_EQ(response->experts_per_token(), 2U);
  EXPECT_EQ(response->dropped_pairs(), 5U);
  EXPECT_DOUBLE_EQ(response->random_first_repetition(), 0.25);
  EXPECT_DOUBLE_EQ(response->random_any_repetition(), 1 - 1.0 / 6);
  EXPECT_GE(response->window_seconds(), 600);
  EXPECT_EQ(response->layers(1).layer(), 1U);
}

TEST_F(ExpertHandlerTest, AWindowLeavesOutWhatIsOlder) {
  Start(/*keeps_tokens=*/false);
  Add(std::chrono::seconds(300));
  Add(std::chrono::seconds(0));
  v1::GetExpertLoadRequest request;
  const auto tokens = [&] { return GetExpertLoad(request, serving_)->layers(0).tokens(0); };
  EXPECT_EQ(tokens(), 6U);
  request.set_window_seconds(60);
  EXPECT_EQ(tokens(), 3U);
  const double covered = GetExpertLoad(request, serving_)->window_seconds();
  EXPECT_GE(covered, 60);
  EXPECT_LE(covered, 61);
  request.set_window_seconds(3600);
  EXPECT_EQ(tokens(), 6U);
  // Less than the second by which the counts are kept.
  request.set_window_seconds(1e-9);
  EXPECT_TRUE(GetExpertLoad(request, serving_).ok());
}

TEST_F(ExpertHandlerTest, RefusesAWindowOutOfRange) {
  Start(/*keeps_tokens=*/false);
  v1::GetExpertLoadRequest request;
  for (const double window : {0.0, -1.0, 3600.5, std::numeric_limits<double>::quiet_NaN(),
                              std::numeric_limits<double>::infinity()}) {
    request.set_window_seconds(window);
    const absl::Status status = GetExpertLoad(request, serving_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << window;
    EXPECT_THAT(std::string(status.message()), StartsWith("window_seconds must be in (0, 3600]"));
  }
}

TEST_F(ExpertHandlerTest, TellsTheTokensOfEachExpert) {
  Start(/*keeps_tokens=*/true);
  Add(std::chrono::seconds(0));
  const auto response = GetExpertTokens({}, serving_);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->counted_tokens(), 3U);
  EXPECT_DOUBLE_EQ(response->random_agreement(), 0.25);
  ASSERT_EQ(response->layers_size(), 2);
  const v1::LayerExpertTokens& layer = response->layers(0);
  ASSERT_EQ(layer.experts_size(), 4);
  ASSERT_EQ(layer.experts(0).tokens_size(), 2);
  const v1::ExpertToken& most = layer.experts(0).tokens(0);
  EXPECT_EQ(most.token_id(), 259U);
  EXPECT_EQ(most.count(), 2U);
  EXPECT_EQ(most.piece(), "a");
  EXPECT_DOUBLE_EQ(most.share(), 1.0);
  EXPECT_EQ(layer.experts(0).tokens(1).piece(), "b");
  EXPECT_EQ(layer.experts(3).expert(), 3U);
  // Token 259 was seen twice, and both times went to expert 0 first.
  EXPECT_EQ(layer.repeated_tokens(), 2U);
  EXPECT_EQ(layer.repeated_token_ids(), 1U);
  EXPECT_DOUBLE_EQ(layer.favourite_share(), 1.0);
  EXPECT_DOUBLE_EQ(layer.agreement(), 1.0);
  EXPECT_EQ(response->layers(1).experts(0).tokens_size(), 0);

  v1::GetExpertTokensRequest one;
  one.set_limit(1);
  EXPECT_EQ(GetExpertTokens(one, serving_)->layers(0).experts(0).tokens_size(), 1);
}

TEST_F(ExpertHandlerTest, TokensOfAModelWithoutTokenizerHaveNoPieces) {
  Start(/*keeps_tokens=*/true, /*with_tokenizer=*/false);
  Add(std::chrono::seconds(0));
  const v1::ExpertToken token = GetExpertTokens({}, serving_)->layers(0).experts(0).tokens(0);
  EXPECT_EQ(token.token_id(), 259U);
  EXPECT_EQ(token.piece(), "");
}

TEST_F(ExpertHandlerTest, RefusesTokensThatAreNotCountedAndSaysHowToHaveThem) {
  Start(/*keeps_tokens=*/false);
  const absl::Status status = GetExpertTokens({}, serving_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--expert-token-statistics"));
}

TEST_F(ExpertHandlerTest, RefusesALimitOutOfRangeAndAnotherModel) {
  Start(/*keeps_tokens=*/true);
  v1::GetExpertTokensRequest request;
  request.set_limit(100);
  EXPECT_TRUE(GetExpertTokens(request, serving_).ok());
  for (const uint32_t limit : {0U, 101U}) {
    request.set_limit(limit);
    const absl::Status status = GetExpertTokens(request, serving_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << limit;
    EXPECT_THAT(std::string(status.message()), StartsWith("limit must be in [1, 100]"));
  }
  request.clear_limit();
  request.set_model("other");
  EXPECT_TRUE(absl::IsNotFound(GetExpertTokens(request, serving_).status()));
}

TEST(PlacementTest, TellsTheRankOfEachExpert) {
  const auto model = MakeServedModel();
  v1::GetPlacementRequest request;
  EXPECT_TRUE(absl::IsUnavailable(GetPlacement(request, *model).status()));
  model->placement = ExpertPlacement::Even(/*num_layers=*/2, /*num_experts=*/4, /*num_ranks=*/3);
  const auto response = GetPlacement(request, *model);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->num_ranks(), 3U);
  ASSERT_EQ(response->layers_size(), 2);
  EXPECT_THAT(response->layers(0).rank(), ElementsAre(0U, 1U, 2U, 0U));
  EXPECT_EQ(response->layers(1).layer(), 1U);
  EXPECT_THAT(response->layers(1).rank(), ElementsAre(1U, 2U, 0U, 1U));
  request.set_model("other");
  EXPECT_TRUE(absl::IsNotFound(GetPlacement(request, *model).status()));
}

TEST(WatchedLoadTest, AsksForWhatTheWatchAskedFor) {
  v1::WatchExpertLoadRequest watch;
  watch.set_model("m");
  EXPECT_FALSE(LoadRequest(watch).has_window_seconds());
  watch.set_window_seconds(5);
  EXPECT_EQ(LoadRequest(watch).window_seconds(), 5);
  EXPECT_EQ(LoadRequest(watch).model(), "m");
}

}  // namespace
}  // namespace moed
