#include "runtime/tokenizer/bpe.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/check.h"
#include "tests/runtime/tokenizer/model_file.h"

namespace moed {
namespace {

using testing::ElementsAre;

class Bpe {
 public:
  explicit Bpe(const ModelFile& file)
      : vocabulary_(MakeVocabulary(file)),
        user_defined_(vocabulary_),
        encoder_(&vocabulary_, &user_defined_) {}

  std::vector<std::string> Split(const std::string& text, BpeWork* work = nullptr) const {
    std::vector<std::string> parts;
    for (const BpeToken& token : encoder_.Encode(text, work)) {
      parts.emplace_back(token.text.data(), token.text.size());
    }
    return parts;
  }

 private:
  static Vocabulary MakeVocabulary(const ModelFile& file) {
    auto model = SentencePieceModel::Parse(file.Bytes(), "test");
    MOED_CHECK(model.ok(), "a well-formed model");
    auto vocabulary = Vocabulary::Create(std::move(*model), "test");
    MOED_CHECK(vocabulary.ok(), "a well-formed vocabulary");
    return std::move(*vocabulary);
  }

  Vocabulary vocabulary_;
  PrefixMatcher user_defined_;
  BpeEncoder encoder_;
};

TEST(BpeTest, HigherScoreMergesFirst) {
  EXPECT_THAT(Bpe(ModelFile().Specials().Piece("ab", -2).Piece("bc", -1)).Split("abc"),
              ElementsAre("a", "bc"));
  EXPECT_THAT(Bpe(ModelFile().Specials().Piece("ab", -1).Piece("bc", -2)).Split("abc"),
              ElementsAre("ab", "c"));
}

TEST(BpeTest, LeftmostOfEqualScoresMergesFirst) {
  EXPECT_THAT(Bpe(ModelFile().Specials().Piece("aa", -1)).Split("aaaaa"),
              ElementsAre("aa", "aa", "a"));
  EXPECT_THAT(Bpe(ModelFile().Specials().Piece("bc", -1).Piece("ab", -1)).Split("abc"),
              ElementsAre("ab", "c"));
}

TEST(BpeTest, OnlyPairsThatArePiecesMerge) {
  const Bpe bpe(ModelFile().Specials().Piece("abc", -1).Piece("bc", -9));
  EXPECT_THAT(bpe.Split("abc"), ElementsAre("abc"));  // a + bc
  EXPECT_THAT(bpe.Split("ab"), ElementsAre("a", "b"));
  EXPECT_THAT(bpe.Split(""), ElementsAre());
}

TEST(BpeTest, ReservedPiecesAreNeverMade) {
  EXPECT_THAT(Bpe(ModelFile().Specials().Piece("<s", -1)).Split("<s>"), ElementsAre("<s", ">"));
}

TEST(BpeTest, UnusedPiecesAreSplitAgain) {
  ModelFile file;
  file.Specials().Piece("ab", -1, PieceType::kUnused).Piece("abc", -2, PieceType::kUnused);
  EXPECT_THAT(Bpe(file).Split("abc"), ElementsAre("a", "b", "c"));
  file.Piece("abcd", -3);
  EXPECT_THAT(Bpe(file).Split("abcd"), ElementsAre("abcd"));
}

TEST(BpeTest, UserDefinedPiecesAreTakenWholeLongestFirst) {
  ModelFile file;
  file.Specials().Piece("[I]", 0, PieceType::kUserDefined);
  file.Piece("[I", 0, PieceType::kUserDefined).Piece("]x", -1).Piece("a[I]", -1);
  EXPECT_THAT(Bpe(file).Split("a[I]x"), ElementsAre("a", "[I]", "x"));
  EXPECT_THAT(Bpe(file).Split("[I[I]"), ElementsAre("[I", "[I]"));
}

TEST(BpeTest, WorkGrowsWithTheLengthOfTheText) {
  // Pieces a, aa, aaaa, ... make the deepest merging; seeded letters the most varied.
  ModelFile file;
  file.Specials();
  for (int i = 1; i <= 10; ++i) file.Piece(std::string(size_t{1} << i, 'a'), -i);
  file.Piece("ab", -20).Piece("ba", -21).Piece("abba", -22).Piece("bb", -23);
  const Bpe bpe(file);
  std::mt19937 random(7);
  for (const int length : {1000, 30000, 300000}) {
    std::string mixed(length, 'a');
    for (char& letter : mixed) letter = "ab"[random() % 2];
    for (const std::string& text : {std::string(length, 'a'), mixed}) {
      BpeWork work;
      const size_t num_tokens = bpe.Split(text, &work).size();
      // One lookup for each neighbouring pair, then two for each merge, and every merge takes one
      // symbol away.
      const int64_t num_merges = length - static_cast<int64_t>(num_tokens);
      EXPECT_LE(work.num_lookups, length - 1 + 2 * num_merges) << length;
      EXPECT_LE(work.num_pushes, work.num_lookups) << length;
      EXPECT_GT(work.num_lookups, 0) << length;
    }
  }
}

}  // namespace
}  // namespace moed
