// Writes SentencePiece model files for tests, well formed or not.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/tokenizer/sentencepiece_model.h"

namespace moed {

// Protobuf's wire format, from the writer's side.
inline std::string WireVarint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
inline std::string WireInteger(uint32_t field, uint64_t value) {
  return WireVarint(uint64_t{field} * 8) + WireVarint(value);
}
inline std::string WireBytes(uint32_t field, const std::string& bytes) {
  return WireVarint(uint64_t{field} * 8 + 2) + WireVarint(bytes.size()) + bytes;
}
inline std::string WireFloat(uint32_t field, float value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return WireVarint(uint64_t{field} * 8 + 5) + bytes;
}

// A model file in parts, each of which a test may replace.
struct ModelFile {
  std::vector<std::string> pieces;             // field 1, one message each
  std::string trainer = WireInteger(3, 2);     // field 2: BPE
  std::string normalizer = WireInteger(4, 0);  // field 3: no extra whitespace removed
  std::string rest;                            // any further fields

  ModelFile& Piece(const std::string& text, float score, PieceType type = PieceType::kNormal) {
    pieces.push_back(WireBytes(1, text) + WireFloat(2, score) +
                     WireInteger(3, static_cast<uint64_t>(type)));
    return *this;
  }
  // <unk>, <s> and </s> as ids 0, 1 and 2.
  ModelFile& Specials() {
    Piece("<unk>", 0, PieceType::kUnknown);
    Piece("<s>", 0, PieceType::kControl);
    return Piece("</s>", 0, PieceType::kControl);
  }
  // The 256 byte pieces, and the flag that goes with them.
  ModelFile& BytePieces() {
    const char* digits = "0123456789ABCDEF";
    for (int byte = 0; byte < 256; ++byte) {
      Piece(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", 0, PieceType::kByte);
    }
    trainer += WireInteger(35, 1);
    return *this;
  }
  std::string Bytes() const {
    std::string bytes;
    for (const std::string& piece : pieces) bytes += WireBytes(1, piece);
    return bytes + WireBytes(2, trainer) + WireBytes(3, normalizer) + rest;
  }
};

// Specials (0-2), bytes (3-258), then pieces that merge to "▁hello", "▁he", "日" and "lo".
inline ModelFile SmallModelFile() {
  ModelFile file;
  file.Specials().BytePieces();
  float score = 0;
  for (const char* text : {"▁", "h", "e", "l", "o", "日", "he", "lo", "▁he", "llo", "▁hello"}) {
    file.Piece(text, score);
    score -= 1;
  }
  return file;
}

}  // namespace moed
