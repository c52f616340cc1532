#include "tests/simulation/solo_oracle.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {
namespace {

// The pieces of SimulationTokenizer after its bytes: " the", e acute, the euro sign, "STOP", then
// "aa" to "jj".
constexpr int32_t kStop = kTinyFirstPiece + 3;
int32_t Pair(char first, char second) {
  return kTinyFirstPiece + 4 + (first - 'a') * 10 + (second - 'a');
}

std::vector<SampledToken> Tokens(const std::vector<int32_t>& ids) {
  std::vector<SampledToken> tokens;
  for (const int32_t id : ids) {
    tokens.emplace_back();
    tokens.back().token_id = id;
  }
  return tokens;
}

GenerationRequest Request(std::vector<std::string> stop_strings) {
  GenerationRequest request;
  request.prompt_token_ids = {Pair('a', 'a')};
  request.stopping.max_tokens = 8;
  request.stopping.stop_strings = std::move(stop_strings);
  return request;
}

TEST(SoloOracleTest, AStopStringMayCrossTokens) {
  const std::vector<SampledToken> tokens = Tokens({Pair('a', 'b'), Pair('c', 'd'), Pair('e', 'f')});
  GenerationRequest request = Request({"bc"});
  SoloText text = TextOfTokens(request, tokens, 3, false, false);
  EXPECT_EQ(text.text, "a");
  EXPECT_EQ(text.matched_stop_string, "bc");
  EXPECT_EQ(text.num_tokens, 2);
  request.stopping.include_stop = true;
  text = TextOfTokens(request, tokens, 3, false, false);
  EXPECT_EQ(text.text, "abc");
}

TEST(SoloOracleTest, TheFirstToEndMatchesAndOfThoseTheLongest) {
  const std::vector<SampledToken> tokens = Tokens({Pair('a', 'b'), kStop});
  const SoloText text = TextOfTokens(Request({"OP", "TOP", "STOPS"}), tokens, 2, false, false);
  EXPECT_EQ(text.text, "abS");
  EXPECT_EQ(text.matched_stop_string, "TOP");
}

TEST(SoloOracleTest, BeforeMinTokensNothingMatches) {
  GenerationRequest request = Request({"ab"});
  request.stopping.min_tokens = 1;
  const std::vector<SampledToken> tokens = Tokens({Pair('a', 'b'), Pair('a', 'b')});
  const SoloText text = TextOfTokens(request, tokens, 2, false, false);
  EXPECT_EQ(text.text, "ab");
  EXPECT_EQ(text.num_tokens, 2);
}

TEST(SoloOracleTest, AStopTokenHasNoTextUnlessItIsAskedFor) {
  GenerationRequest request = Request({});
  const std::vector<SampledToken> tokens = Tokens({Pair('a', 'b'), kStop});
  EXPECT_EQ(TextOfTokens(request, tokens, 2, true, false).text, "ab");
  request.stopping.include_stop = true;
  EXPECT_EQ(TextOfTokens(request, tokens, 2, true, false).text, "abSTOP");
}

}  // namespace
}  // namespace moed
