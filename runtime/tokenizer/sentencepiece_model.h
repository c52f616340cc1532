// What a SentencePiece `tokenizer.model` file says, read by our own small protobuf reader.
// The message and its field numbers: sentencepiece's src/sentencepiece_model.proto.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,      // the one piece that stands for what the vocabulary cannot say
  kControl = 3,      // <s>, </s>: never made from text
  kUserDefined = 4,  // matched whole in the text, before any merge
  kUnused = 5,       // takes part in merges, is split again in the result
  kByte = 6,         // <0x00> to <0xFF>
};

struct SentencePiece {
  std::string text;  // well-formed UTF-8, not empty, at most kMaxPieceBytes
  float score = 0;   // finite; a merge with a higher score happens earlier
  PieceType type = PieceType::kNormal;
};

// The parsed file. Every field that changes a token or a character is here or was refused.
struct SentencePieceModel {
  // Longer pieces, larger vocabularies and larger files are refused: real ones stay far below.
  static constexpr size_t kMaxPieceBytes = 4096;
  static constexpr size_t kMaxPieces = size_t{1} << 21;
  static constexpr size_t kMaxFileBytes = size_t{256} << 20;

  std::vector<SentencePiece> pieces;  // index = token id

  bool byte_fallback = false;  // an unknown character becomes its bytes' pieces
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  std::string pad_piece = "<pad>";
  std::string unk_surface = " \xE2\x81\x87 ";  // what Decode writes for the unknown piece

  bool add_dummy_prefix = true;          // a space is put before the text
  bool remove_extra_whitespaces = true;  // leading, trailing and repeated spaces vanish

  // Parses a file's contents. `file` only names it in errors. INVALID_ARGUMENT: malformed bytes or
  // a broken rule of the format, with file, field, expected and found. UNIMPLEMENTED: a well-formed
  // model with a feature that this project does not have, by its name (a model type other than
  // BPE, a normaliser other than identity, whitespace as suffix, unescaped whitespace).
  static absl::StatusOr<SentencePieceModel> Parse(absl::string_view bytes, absl::string_view file);

  // Reads and parses the file at `path`. NOT_FOUND when it cannot be opened.
  static absl::StatusOr<SentencePieceModel> Load(const std::string& path);
};

}  // namespace moed
