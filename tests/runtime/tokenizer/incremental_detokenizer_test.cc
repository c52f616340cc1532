#include "runtime/tokenizer/incremental_detokenizer.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/core/check.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/utf8.h"
#include "tests/runtime/tokenizer/model_file.h"

namespace moed {
namespace {

constexpr int32_t kUnk = 0;
constexpr int32_t kBos = 1;
constexpr int32_t kEos = 2;
constexpr int32_t kSpace = 259;
constexpr int32_t kSun = 264;
constexpr int32_t kLo = 266;
constexpr int32_t kHello = 269;

int32_t Byte(int byte) { return 3 + byte; }

const Tokenizer& SmallTokenizer() {
  static const auto* const kTokenizer = [] {
    auto tokenizer = Tokenizer::FromBytes(SmallModelFile().Bytes(), "test");
    MOED_CHECK(tokenizer.ok(), "a well-formed model");
    return tokenizer->release();
  }();
  return *kTokenizer;
}

std::string Deltas(const std::vector<int32_t>& ids, const DetokenizeOptions& options = {},
                   const std::vector<int32_t>& prompt = {}) {
  IncrementalDetokenizer detokenizer(SmallTokenizer(), options, prompt);
  std::string joined;
  for (const int32_t id : ids) joined += "[" + detokenizer.Feed(id) + "]";
  const std::string rest = detokenizer.Flush();
  return rest.empty() ? joined : joined + rest;
}

TEST(IncrementalDetokenizerTest, TheFirstSpaceOfATextIsDropped) {
  EXPECT_EQ(Deltas({kHello, kHello}), "[hello][ hello]");
  EXPECT_EQ(Deltas({kBos, kHello}), "[][hello]");
  EXPECT_EQ(Deltas({kSpace, kHello}), "[][ hello]");
  EXPECT_EQ(Deltas({kLo, kHello}), "[lo][ hello]");
  EXPECT_EQ(Deltas({Byte('x'), kHello}), "[x][ hello]");
}

TEST(IncrementalDetokenizerTest, WhatContinuesAPromptKeepsItsSpace) {
  EXPECT_EQ(Deltas({kHello}, {}, {kHello}), "[ hello]");
  EXPECT_EQ(Deltas({kHello}, {}, {kBos, kHello, kEos}), "[ hello]");
  EXPECT_EQ(Deltas({kHello}, {}, {kSpace}), "[ hello]");
  EXPECT_EQ(Deltas({kHello}, {}, {Byte('x')}), "[ hello]");
}

TEST(IncrementalDetokenizerTest, APromptOfControlPiecesBeginsNoText) {
  EXPECT_EQ(Deltas({kHello}, {}, {kBos}), "[hello]");
  EXPECT_EQ(Deltas({kHello}, {}, {}), "[hello]");
  EXPECT_EQ(Deltas({kHello}, {.skip_special_tokens = false}, {kBos}), "[ hello]");
}

TEST(IncrementalDetokenizerTest, BytesWaitForTheirCodePoint) {
  EXPECT_EQ(Deltas({Byte(0xE6), Byte(0x97), Byte(0xA5)}), "[][][日]");
  EXPECT_EQ(Deltas({Byte(0xF0), Byte(0x9F), Byte(0x98), Byte(0x80), Byte('a')}), "[][][][😀][a]");
  EXPECT_EQ(Deltas({Byte(0xC3), Byte(0xA9), Byte(0xC3), Byte(0xA9)}), "[][é][][é]");
}

TEST(IncrementalDetokenizerTest, EachByteOfNoCodePointIsReplaced) {
  EXPECT_EQ(Deltas({Byte(0xFF), Byte('a')}), "[\uFFFD][a]");
  EXPECT_EQ(Deltas({Byte(0xE6), Byte('a')}), "[][\uFFFDa]");
  EXPECT_EQ(Deltas({Byte(0xE6), Byte(0x97), kSun}), "[][][\uFFFD\uFFFD日]");
  EXPECT_EQ(Deltas({Byte(0xE6), Byte(0xE6), Byte(0x97), Byte(0xA5)}), "[][\uFFFD][][日]");
  EXPECT_EQ(Deltas({Byte(0xED), Byte(0xA0), Byte(0x80)}), "[][\uFFFD\uFFFD][\uFFFD]");
  EXPECT_EQ(Deltas({Byte(0xF0), Byte(0x9F)}), "[][]\uFFFD\uFFFD");
  // A control piece ends a run of bytes even where it is not shown.
  EXPECT_EQ(Deltas({Byte(0xC3), kEos, Byte(0xA9)}), "[][\uFFFD][\uFFFD]");
}

TEST(IncrementalDetokenizerTest, BytesThatThePromptLeavesUnfinishedAreCarriedOver) {
  EXPECT_EQ(Deltas({Byte(0xA5), kLo}, {}, {kHello, Byte(0xE6), Byte(0x97)}), "[日][lo]");
  EXPECT_EQ(Deltas({Byte(0xA5)}, {}, {Byte(0xE6), Byte(0x97)}), "[日]");
  EXPECT_EQ(Deltas({Byte(0xA5)}, {}, {Byte(0xE6), Byte(0x97), kEos}), "[\uFFFD]");
}

TEST(IncrementalDetokenizerTest, SpecialTokensAreShownOnlyWhereAsked) {
  const std::vector<int32_t> ids = {kBos, kHello, kUnk, kEos};
  EXPECT_EQ(Deltas(ids), "[][hello][ \u2047 ][]");
  EXPECT_EQ(Deltas(ids, {.skip_special_tokens = false}), "[<s>][ hello][ \u2047 ][</s>]");
}

TEST(IncrementalDetokenizerTest, AnIdBeyondTheVocabularyIsReplaced) {
  EXPECT_EQ(Deltas({kHello, 270, -1, kLo}), "[hello][\uFFFD][\uFFFD][lo]");
}

TEST(IncrementalDetokenizerTest, DeltasAreWholeCodePointsAndJoinToDecode) {
  const uint32_t seed = 5;
  std::mt19937 random(seed);
  for (int i = 0; i < 5000; ++i) {
    std::vector<int32_t> ids(random() % 20);
    for (int32_t& id : ids) {
      const uint32_t kind = random() % 4;
      id = kind == 0   ? static_cast<int32_t>(random() % 270)
           : kind == 1 ? Byte(0x80 + static_cast<int>(random() % 64))
           : kind == 2 ? Byte(0xC0 + static_cast<int>(random() % 64))
                       : kSpace + static_cast<int32_t>(random() % 11);
    }
    const bool skip = random() % 2 == 0;
    const size_t cut = ids.empty() ? 0 : random() % (ids.size() + 1);
    IncrementalDetokenizer whole(SmallTokenizer(), {skip});
    IncrementalDetokenizer rest(SmallTokenizer(), {skip}, absl::MakeConstSpan(ids).first(cut));
    std::string text;
    std::string rest_text;
    for (size_t k = 0; k < ids.size(); ++k) {
      const std::string delta = whole.Feed(ids[k]);
      ASSERT_TRUE(IsValidUtf8(delta)) << "seed " << seed << ", case " << i << ", id " << k;
      text += delta;
      if (k >= cut) rest_text += rest.Feed(ids[k]);
    }
    text += whole.Flush();
    rest_text += rest.Flush();
    ASSERT_EQ(text, SmallTokenizer().Decode(ids, skip).value())
        << "seed " << seed << ", case " << i;
    ASSERT_FALSE(whole.HasPending());

    // The continuation of a prompt is the end of the whole.
    ASSERT_LE(rest_text.size(), text.size());
    ASSERT_EQ(text.substr(text.size() - rest_text.size()), rest_text)
        << "seed " << seed << ", case " << i << ", prompt of " << cut;
  }
}

}  // namespace
}  // namespace moed
