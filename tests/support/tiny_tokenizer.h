// A tokenizer made in memory, for tests that need text but no model.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

inline constexpr int32_t kTinyEos = 2;           // 0: <unk>, 1: <s>, 2: </s>
inline constexpr int32_t kTinyFirstPiece = 259;  // after the 256 byte pieces

// The id of the piece for one byte.
inline int32_t TinyByte(unsigned char byte) { return 3 + byte; }

// A SentencePiece model file: the three control pieces, the 256 bytes, then `pieces`. Field numbers
// are those of sentencepiece_model.proto.
inline std::string TinyTokenizerBytes(const std::vector<std::string>& pieces) {
  const auto varint = [](uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
    bytes.push_back(static_cast<char>(value));
    return bytes;
  };
  const auto message = [&](int field, const std::string& body) {
    return varint(field * 8 + 2) + varint(body.size()) + body;
  };
  const auto integer = [&](int field, uint64_t value) { return varint(field * 8) + varint(value); };
  std::string model;
  float score = 0;
  const auto add_piece = [&](const std::string& text, PieceType type) {
    std::string score_bytes(sizeof(score), '\0');
    std::memcpy(score_bytes.data(), &score, sizeof(score));
    score -= 1;
    model += message(1, message(1, text) + varint(2 * 8 + 5) + score_bytes +
                            integer(3, static_cast<uint64_t>(type)));
  };
  add_piece("<unk>", PieceType::kUnknown);
  add_piece("<s>", PieceType::kControl);
  add_piece("</s>", PieceType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    const char* digits = "0123456789ABCDEF";
    add_piece(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", PieceType::kByte);
  }
  for (const std::string& piece : pieces) add_piece(piece, PieceType::kNormal);
  const std::string trainer = integer(3, 2) + integer(35, 1);  // BPE, byte fallback
  const std::string normalizer = message(1, "identity") + integer(3, 0) + integer(4, 0);
  return model + message(2, trainer) + message(3, normalizer);
}

inline std::unique_ptr<Tokenizer> MakeTinyTokenizer(const std::vector<std::string>& pieces) {
  auto tokenizer = Tokenizer::FromBytes(TinyTokenizerBytes(pieces), "tiny tokenizer");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

}  // namespace moed
