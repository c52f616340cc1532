#include "runtime/tokenizer/tokenizer.h"

#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/runtime/tokenizer/model_file.h"
#include "tests/support/shared_data.h"

namespace moed {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

constexpr char kMistral[] = "tokenizers/mistral-v1";

std::unique_ptr<Tokenizer> MustLoad(const std::string& path) {
  auto tokenizer = Tokenizer::Load(path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

std::unique_ptr<Tokenizer> MustMake(const ModelFile& file) {
  auto tokenizer = Tokenizer::FromBytes(file.Bytes(), "test");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

std::vector<std::string> Pieces(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> pieces;
  for (const int32_t id : tokenizer.Encode(text)) {
    pieces.emplace_back(tokenizer.IdToPiece(id).data(), tokenizer.IdToPiece(id).size());
  }
  return pieces;
}

TEST(TokenizerTest, EncodesWithDummyPrefixMergesAndByteFallback) {
  const auto tokenizer = MustMake(SmallModelFile());
  EXPECT_THAT(Pieces(*tokenizer, "hello"), ElementsAre("▁hello"));
  EXPECT_THAT(Pieces(*tokenizer, " hello"), ElementsAre("▁", "▁hello"));
  EXPECT_THAT(Pieces(*tokenizer, "日é"), ElementsAre("▁", "日", "<0xC3>", "<0xA9>"));
  EXPECT_THAT(Pieces(*tokenizer, ""), IsEmpty());
}

TEST(TokenizerTest, BosIsAddedWhereAsked) {
  const auto tokenizer = MustMake(SmallModelFile());
  EXPECT_THAT(tokenizer->Encode("", {.add_bos = true}), ElementsAre(1));
  EXPECT_THAT(tokenizer->Encode("hello", {.add_bos = true}), ElementsAre(1, 269));
  const Encoding encoding = tokenizer->EncodeWithOffsets("hello", {.add_bos = true});
  EXPECT_THAT(encoding.ids, ElementsAre(1, 269));
  EXPECT_THAT(encoding.spans, ElementsAre(TextSpan{0, 0}, TextSpan{0, 5}));
}

TEST(TokenizerTest, OffsetsCoverTheTextInOrder) {
  const auto tokenizer = MustMake(SmallModelFile());
  const std::string text = "he \xE6\x97\xA5\xC3\xA9\xFFlo  hello";
  const Encoding encoding = tokenizer->EncodeWithOffsets(text);
  ASSERT_EQ(encoding.ids.size(), encoding.spans.size());
  uint32_t end = 0;
  for (const TextSpan& span : encoding.spans) {
    EXPECT_EQ(span.begin, end);
    end = span.end;
  }
  EXPECT_EQ(end, text.size());
  EXPECT_EQ(encoding.ids, tokenizer->Encode(text));
}

TEST(TokenizerTest, NamesOfSpecialTokensInTextAreOnlyText) {
  const auto tokenizer = MustMake(SmallModelFile());
  for (const char* text : {"<s>", "</s>", "<unk>", "<0x0A>", "a<s>b</s>"}) {
    for (const int32_t id : tokenizer->Encode(text)) {
      EXPECT_FALSE(tokenizer->IsControl(id)) << text;
      EXPECT_NE(id, tokenizer->unk_id()) << text;
    }
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)).value(), text);
  }
  EXPECT_THAT(tokenizer->Encode("<0x0A>"), Not(Contains(3 + 0x0A)));
}

TEST(TokenizerTest, KnowsItsPieces) {
  const auto tokenizer = MustMake(SmallModelFile().Piece("x", 0, PieceType::kUnused));
  EXPECT_EQ(tokenizer->vocab_size(), 271);
  EXPECT_EQ(tokenizer->unk_id(), 0);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->pad_id(), Tokenizer::kNoToken);
  EXPECT_FALSE(tokenizer->IsControl(0));
  EXPECT_TRUE(tokenizer->IsControl(1));
  EXPECT_EQ(tokenizer->vocabulary().type(3), PieceType::kByte);
  EXPECT_EQ(tokenizer->vocabulary().type(270), PieceType::kUnused);
  EXPECT_EQ(tokenizer->IdToPiece(258), "<0xFF>");
  EXPECT_FALSE(tokenizer->Contains(-1));
  EXPECT_FALSE(tokenizer->Contains(271));
}

TEST(TokenizerTest, DecodeNamesAnIdOutsideTheVocabulary) {
  const auto tokenizer = MustMake(SmallModelFile());
  for (const int32_t id : {-1, 270, 1 << 30}) {
    const auto text = tokenizer->Decode({1, 269, id});
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(text.status().message(),
              "token_ids[2]: expected 0 to 269, found " + std::to_string(id));
  }
}

TEST(TokenizerTest, WithoutByteFallbackARunOfUnknownCharactersIsOneToken) {
  const auto tokenizer = MustMake(ModelFile().Specials().Piece("▁", 0).Piece("a", -1));
  const Encoding encoding = tokenizer->EncodeWithOffsets("xyazé");
  EXPECT_THAT(encoding.ids, ElementsAre(3, 0, 4, 0));
  EXPECT_THAT(encoding.spans,
              ElementsAre(TextSpan{0, 0}, TextSpan{0, 2}, TextSpan{2, 3}, TextSpan{3, 6}));
  EXPECT_EQ(tokenizer->Decode(encoding.ids).value(), " \xE2\x81\x87 a \xE2\x81\x87 ");
}

TEST(TokenizerTest, SeededTextsSurviveARoundTrip) {
  const auto tokenizer = MustMake(SmallModelFile());
  const uint32_t seed = 11;
  std::mt19937 random(seed);
  const std::vector<std::string> parts = {" ", "  ", "hello", "he", "\n", "é", "日", "😀", "lo"};
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (uint32_t n = random() % 12; n > 0; --n) text += parts[random() % parts.size()];
    const auto decoded = tokenizer->Decode(tokenizer->Encode(text));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ASSERT_EQ(*decoded, text) << "seed " << seed << ", case " << i;
  }
}

TEST(TokenizerTest, EqualsTheAgreedIdsOfTheMixtralTokenizer) {
  MOED_SKIP_WITHOUT_SHARED_DATA(kMistral);
  const auto tokenizer = MustLoad(SharedDataPath(kMistral) + "/tokenizer.model");
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  std::ifstream file(SharedDataPath(kMistral) + "/encode_cases.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_FALSE(cases.empty());
  for (const nlohmann::json& one : cases) {
    const std::string text = one["text"];
    EXPECT_EQ(tokenizer->Encode(text), one["ids"].get<std::vector<int32_t>>()) << text;
    // U+2581 in a text cannot be told from a space any more.
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)).value(),
              absl::StrReplaceAll(text, {{kSpaceSymbol, " "}}));
  }
}

TEST(TokenizerTest, LoadsTheDemonstrationModelsTokenizer) {
  const auto tokenizer = MustLoad(std::string(MOED_SOURCE_DIR) + "/models/demo/tokenizer.model");
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 2048);
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("Once upon a time")).value(), "Once upon a time");
}

}  // namespace
}  // namespace moed
