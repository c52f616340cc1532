#include "runtime/tokenizer/sentencepiece_model.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/runtime/tokenizer/model_file.h"

namespace moed {
namespace {

// Everything that refuses a file, parser and vocabulary, is behind Tokenizer::FromBytes.
absl::Status LoadStatus(const std::string& bytes) {
  return Tokenizer::FromBytes(bytes, "some.model").status();
}

struct RefusedFile {
  const char* name;
  ModelFile file;
  absl::StatusCode code;
  const char* message;  // all of it
};

ModelFile WithPiece(const std::string& piece_message) {
  ModelFile file;
  file.Specials();
  file.pieces.push_back(piece_message);
  return file;
}

ModelFile WithTrainer(const std::string& fields) {
  ModelFile file;
  file.Specials().trainer += fields;
  return file;
}

ModelFile WithNormalizer(const std::string& fields) {
  ModelFile file;
  file.Specials().normalizer += fields;
  return file;
}

ModelFile WithRest(const std::string& fields) {
  ModelFile file;
  file.Specials().rest = fields;
  return file;
}

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnsupported = absl::StatusCode::kUnimplemented;

const RefusedFile kRefused[] = {
    {"EmptyPiece", WithPiece(WireFloat(2, 0)), kInvalid,
     "some.model: pieces[3]: piece: expected a text, found none"},
    {"PieceNotUtf8", WithPiece(WireBytes(1, "\xC3")), kInvalid,
     "some.model: pieces[3]: expected UTF-8 text, found malformed bytes"},
    {"PieceTooLong", WithPiece(WireBytes(1, std::string(4097, 'a'))), kInvalid,
     "some.model: pieces[3]: piece: expected at most 4096 bytes, found 4097"},
    {"PieceOfWrongWireType", WithPiece(WireInteger(1, 7)), kInvalid,
     "some.model: pieces[3]: expected length-delimited bytes, found a varint"},
    {"ScoreOfWrongWireType", WithPiece(WireBytes(1, "a") + WireInteger(2, 7)), kInvalid,
     "some.model: pieces[3]: expected 4 fixed bytes, found a varint"},
    {"ScoreNotANumber", WithPiece(WireBytes(1, "a") + WireFloat(2, std::nanf(""))), kInvalid,
     "some.model: pieces[3]: score: expected a finite number, found nan"},
    {"ScoreInfinite",
     WithPiece(WireBytes(1, "a") + WireFloat(2, std::numeric_limits<float>::infinity())), kInvalid,
     "some.model: pieces[3]: score: expected a finite number, found inf"},
    {"PieceTypeUnknown", WithPiece(WireBytes(1, "a") + WireInteger(3, 7)), kInvalid,
     "some.model: pieces[3]: type: expected 1 to 6, found 7"},
    {"PieceTypeNegative", WithPiece(WireBytes(1, "a") + WireInteger(3, ~uint64_t{0})), kInvalid,
     "some.model: pieces[3]: type: expected 1 to 6, found -1"},
    {"PieceLengthBeyondMessage",
     WithPiece(std::string("\x0A\x05"
                           "ab",
                           4)),
     kInvalid, "some.model: pieces[3]: at byte 2: expected 5 bytes, found 2"},
    {"LengthThatWraps", WithPiece("\x0A" + WireVarint(~uint64_t{0}) + "ab"), kInvalid,
     "some.model: pieces[3]: at byte 11: expected 18446744073709551615 bytes, found 2"},
    {"FieldNumberZero", WithPiece(WireInteger(0, 1)), kInvalid,
     "some.model: pieces[3]: at byte 1: expected a field number from 1 to 536870911, found 0"},
    {"FieldNumberTooLarge", WithPiece(WireVarint(uint64_t{1} << 32) + "a"), kInvalid,
     "some.model: pieces[3]: at byte 5: expected a field number from 1 to 536870911, found "
     "536870912"},
    {"GroupWireType", WithPiece("\x0B"), kInvalid,
     "some.model: pieces[3]: at byte 1: expected wire type 0, 1, 2 or 5, found wire type 3"},
    {"VarintTooLong", WithPiece("\x18" + std::string(10, '\xFF') + "\x01"), kInvalid,
     "some.model: pieces[3]: at byte 11: expected a varint of 64 bits, found a longer one"},
    {"SamePieceTwice", ModelFile().Specials().Piece("a", 0).Piece("a", 1), kInvalid,
     "some.model: pieces[4] 'a': expected each piece once, found it a second time"},
    {"ControlPieceAsText", ModelFile().Specials().Piece("<s>", 0), kInvalid,
     "some.model: pieces[3] '<s>': expected each piece once, found it a second time"},
    {"TwoUnknownPieces", ModelFile().Specials().Piece("<?>", 0, PieceType::kUnknown), kInvalid,
     "some.model: pieces[3] '<?>': expected one unknown piece, found a second one"},
    {"NoUnknownPiece", ModelFile().Piece("a", 0), kInvalid,
     "some.model: pieces: expected one of type UNKNOWN, found none"},
    {"NoPieces", ModelFile(), kInvalid, "some.model: pieces: expected some, found none"},
    {"ControlPieceOfOneCharacter", ModelFile().Specials().Piece("é", 0, PieceType::kControl),
     kInvalid,
     "some.model: pieces[3] 'é': expected a control piece of more than one character, found one"},
    {"BytePieceWithoutFallback", ModelFile().Specials().Piece("<0x00>", 0, PieceType::kByte),
     kInvalid,
     "some.model: pieces[3] '<0x00>': expected no byte pieces (trainer_spec.byte_fallback is "
     "unset), found one"},
    {"BytePieceWithOtherText",
     ModelFile().Specials().BytePieces().Piece("<0xfg>", 0, PieceType::kByte), kInvalid,
     "some.model: pieces[259] '<0xfg>': expected a byte piece <0x00> to <0xFF>, found another "
     "text"},
    {"FallbackWithoutBytePieces", WithTrainer(WireInteger(35, 1)), kInvalid,
     "some.model: pieces: expected 256 byte pieces (trainer_spec.byte_fallback is set), found none "
     "for <0x00>"},
    {"TrainerOfWrongWireType", WithTrainer(WireBytes(35, "yes")), kInvalid,
     "some.model: trainer_spec: expected a varint, found length-delimited bytes"},
    {"UnknownSurfaceNotUtf8", WithTrainer(WireBytes(44, "\xFF")), kInvalid,
     "some.model: trainer_spec: expected UTF-8 text, found malformed bytes"},
    {"UnigramModel", WithTrainer(WireInteger(3, 1)), kUnsupported,
     "some.model: trainer_spec.model_type: expected BPE (2), found UNIGRAM (1)"},
    {"WordModel", WithTrainer(WireInteger(3, 3)), kUnsupported,
     "some.model: trainer_spec.model_type: expected BPE (2), found WORD (3)"},
    {"UnheardOfModel", WithTrainer(WireInteger(3, 9)), kUnsupported,
     "some.model: trainer_spec.model_type: expected BPE (2), found an unknown type (9)"},
    {"WhitespaceAsSuffix", WithTrainer(WireInteger(24, 1)), kUnsupported,
     "some.model: trainer_spec.treat_whitespace_as_suffix: expected false, found true"},
    {"Charsmap", WithNormalizer(WireBytes(1, "nmt_nfkc") + WireBytes(2, "abc")), kUnsupported,
     "some.model: normalizer_spec.precompiled_charsmap: expected none (the identity normaliser), "
     "found 3 bytes of normaliser 'nmt_nfkc'"},
    {"UnescapedWhitespace", WithNormalizer(WireInteger(5, 0)), kUnsupported,
     "some.model: normalizer_spec.escape_whitespaces: expected true, found false"},
    {"Denormalizer", WithRest(WireBytes(5, WireBytes(2, "abcd"))), kUnsupported,
     "some.model: denormalizer_spec.precompiled_charsmap: expected none, found 4 bytes"},
    {"TrainerNotAMessage", WithRest(WireInteger(2, 1)), kInvalid,
     "some.model: trainer_spec: expected length-delimited bytes, found a varint"},
    {"NormalizerNotAMessage", WithRest(WireBytes(3, "\xFF")), kInvalid,
     "some.model: normalizer_spec: at byte 1: expected the rest of a varint, found the end"},
};

TEST(SentencePieceModelTest, ARefusedFileIsToldFileFieldExpectedAndFound) {
  for (const RefusedFile& refused : kRefused) {
    const absl::Status status = LoadStatus(refused.file.Bytes());
    EXPECT_EQ(status.code(), refused.code) << refused.name;
    EXPECT_EQ(status.message(), refused.message) << refused.name;
  }
}

TEST(SentencePieceModelTest, ReadsEveryFieldThatMatters) {
  ModelFile file;
  file.Specials().Piece("▁a", -1.5f).Piece("b", -2, PieceType::kUnused);
  file.Piece("c", 0, PieceType::kUserDefined);
  file.trainer += WireBytes(44, "??") + WireBytes(46, "<s>") + WireBytes(48, "<p>");
  file.normalizer = WireInteger(3, 0) + WireInteger(4, 1);
  const auto model = SentencePieceModel::Parse(file.Bytes(), "some.model");
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ(model->pieces.size(), 6u);
  EXPECT_EQ(model->pieces[3].text, "▁a");
  EXPECT_EQ(model->pieces[3].score, -1.5f);
  EXPECT_EQ(model->pieces[4].type, PieceType::kUnused);
  EXPECT_EQ(model->pieces[5].type, PieceType::kUserDefined);
  EXPECT_FALSE(model->byte_fallback);
  EXPECT_EQ(model->unk_surface, "??");
  EXPECT_EQ(model->pad_piece, "<p>");
  EXPECT_FALSE(model->add_dummy_prefix);
  EXPECT_TRUE(model->remove_extra_whitespaces);
}

TEST(SentencePieceModelTest, AbsentFieldsHaveTheFormatsDefaults) {
  ModelFile file;
  file.Specials().normalizer.clear();
  file.pieces.push_back(WireBytes(1, "a"));
  const auto model = SentencePieceModel::Parse(file.Bytes(), "some.model");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->pieces[3].type, PieceType::kNormal);
  EXPECT_EQ(model->pieces[3].score, 0);
  EXPECT_TRUE(model->add_dummy_prefix);
  EXPECT_TRUE(model->remove_extra_whitespaces);
  EXPECT_EQ(model->bos_piece, "<s>");
  EXPECT_EQ(model->unk_surface, " \xE2\x81\x87 ");

  file.trainer.clear();  // the default model type is not BPE
  EXPECT_EQ(LoadStatus(file.Bytes()).code(), kUnsupported);
}

TEST(SentencePieceModelTest, UnknownFieldsAreSkipped) {
  ModelFile file;
  file.Specials().rest = WireInteger(1000, 5) + WireBytes(1001, "abc") + WireFloat(1002, 1) +
                         WireVarint(1003 * 8 + 1) + std::string(8, '\xFF');
  file.trainer += WireBytes(1, "input.txt") + WireFloat(10, 0.5f);
  EXPECT_TRUE(LoadStatus(file.Bytes()).ok()) << LoadStatus(file.Bytes());
}

TEST(SentencePieceModelTest, AFileCutAnywhereIsRefusedOrWhole) {
  // Cut between pieces the rest is still protobuf, but then the byte pieces or the model type are
  // missing: only the cuts inside the normaliser's field and after it can leave a model.
  const ModelFile file = SmallModelFile();
  const std::string bytes = file.Bytes();
  const size_t normalizer_begin = bytes.size() - WireBytes(3, file.normalizer).size();
  for (size_t length = 0; length < bytes.size(); ++length) {
    const absl::Status status = LoadStatus(bytes.substr(0, length));
    if (length == normalizer_begin) {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    ASSERT_FALSE(status.ok()) << "cut at " << length;
    ASSERT_TRUE(absl::StartsWith(status.message(), "some.model: ")) << status;
  }
  EXPECT_TRUE(LoadStatus(bytes).ok());
}

TEST(SentencePieceModelTest, AMissingFileIsNotFound) {
  const auto model = SentencePieceModel::Load("no/such/tokenizer.model");
  EXPECT_EQ(model.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(model.status().message(), "no/such/tokenizer.model: cannot be opened");
}

}  // namespace
}  // namespace moed
