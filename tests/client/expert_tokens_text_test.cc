#include "client/expert_tokens_text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::GetExpertTokensResponse Tokens() {
  v1::GetExpertTokensResponse tokens;
  tokens.set_counted_tokens(40);
  tokens.set_random_agreement(0.125);
  v1::LayerExpertTokens* layer = tokens.add_layers();
  layer->set_layer(2);
  layer->set_repeated_tokens(30);
  layer->set_repeated_token_ids(9);
  layer->set_favourite_share(0.75);
  layer->set_random_favourite_share(0.5);
  layer->set_agreement(0.625);
  v1::ExpertTokens* expert = layer->add_experts();
  expert->set_expert(5);
  v1::ExpertToken* token = expert->add_tokens();
  token->set_token_id(17);
  token->set_count(11);
  token->set_piece("\xE2\x96\x81king");
  token->set_share(0.55);
  return tokens;
}

TEST(ExpertTokensTextTest, ShowsEachExpertsTokensAndHowFaithfulTheRouterIs) {
  EXPECT_EQ(FormatExpertTokens(Tokens()),
            "layer 2: the same id goes to the same expert with probability 0.625 (at random "
            "0.125);\n"
            "  to its favourite 0.750 (at random 0.500); of 30 tokens with 9 ids\n"
            "  e5    \"\xE2\x96\x81king\" 11 (55 %)\n"
            "40 tokens counted since the start\n");
}

TEST(ExpertTokensTextTest, ShowsIdsWithoutATokenizerAndNothingThatATerminalObeys) {
  v1::GetExpertTokensResponse tokens = Tokens();
  v1::ExpertToken* token = tokens.mutable_layers(0)->mutable_experts(0)->mutable_tokens(0);
  token->clear_piece();
  EXPECT_THAT(FormatExpertTokens(tokens), HasSubstr("#17 11 (55 %)"));
  token->set_piece("\033[2J");
  EXPECT_THAT(FormatExpertTokens(tokens), Not(HasSubstr("\033")));
}

TEST(ExpertTokensTextTest, SurvivesAnEmptyAnswer) {
  EXPECT_EQ(FormatExpertTokens({}), "no layers\n");
}

}  // namespace
}  // namespace moed
