#include "server/admission/bad_words.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::unique_ptr<Tokenizer> DemoTokenizer() {
  auto tokenizer = Tokenizer::Load(std::string(MOED_SOURCE_DIR) + "/models/demo/tokenizer.model");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<std::string> Spelled(const std::vector<std::vector<int32_t>>& words,
                                 const Tokenizer& tokenizer) {
  std::vector<std::string> result;
  for (const std::vector<int32_t>& ids : words) {
    std::string text;
    for (const int32_t id : ids) text += std::string(tokenizer.IdToPiece(id));
    result.push_back(text);
  }
  return result;
}

TEST(BadWordsTest, StandsForTheWordAtItsBeginningAndInsideAnother) {
  const auto tokenizer = DemoTokenizer();
  for (const std::string word : {"king", "Once upon a time", "x"}) {
    std::string inside;
    for (const char c : word) inside += c == ' ' ? std::string(kSpaceSymbol) : std::string(1, c);
    EXPECT_THAT(Spelled(EncodeBadWord(word, *tokenizer), *tokenizer),
                ElementsAre(std::string(kSpaceSymbol) + inside, inside));
    // At the beginning of a text the tokenizer puts the space there itself.
    EXPECT_EQ(EncodeBadWord(word, *tokenizer)[0], tokenizer->Encode(word));
  }
}

TEST(BadWordsTest, SpacesBeforeItDoNotMatter) {
  const auto tokenizer = DemoTokenizer();
  EXPECT_EQ(EncodeBadWord("  king", *tokenizer), EncodeBadWord("king", *tokenizer));
  EXPECT_THAT(EncodeBadWord("", *tokenizer), IsEmpty());
  EXPECT_THAT(EncodeBadWord("   ", *tokenizer), IsEmpty());
}

TEST(BadWordsTest, SpellsWhatNoPieceHasInBytes) {
  const auto tokenizer = DemoTokenizer();
  // A cat: four bytes that are no piece.
  const auto words = EncodeBadWord("\xF0\x9F\x90\x88", *tokenizer);
  ASSERT_EQ(words.size(), 2U);
  EXPECT_THAT(Spelled(words, *tokenizer)[1], "<0xF0><0x9F><0x90><0x88>");
}

TEST(BadWordsTest, WithoutWordMarkersTheSpaceIsATokenOfItsOwn) {
  const auto tokenizer = MakeTinyTokenizer({"a", "b", "ab"});
  const auto words = EncodeBadWord("ab", *tokenizer);
  ASSERT_EQ(words.size(), 2U);
  EXPECT_THAT(words[1], ElementsAre(kTinyFirstPiece + 2));
  EXPECT_EQ(words[0].back(), kTinyFirstPiece + 2);
  EXPECT_GT(words[0].size(), 1U);
}

}  // namespace
}  // namespace moed
