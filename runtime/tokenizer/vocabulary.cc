#include "runtime/tokenizer/vocabulary.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/core/status.h"
#include "runtime/tokenizer/utf8.h"

namespace moed {
namespace {

absl::Status PieceError(absl::string_view file, int32_t id, absl::string_view text,
                        absl::string_view expected, absl::string_view found) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": pieces[", id, "] '",
                                                 absl::Utf8SafeCHexEscape(text), "': expected ",
                                                 expected, ", found ", found));
}

bool IsTextPiece(PieceType type) {
  return type == PieceType::kNormal || type == PieceType::kUserDefined ||
         type == PieceType::kUnused;
}

int HexDigit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

// The byte that "<0x0A>" names, or -1 for any other text.
int ParseBytePiece(absl::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  const int high = HexDigit(text[3]);
  const int low = HexDigit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

absl::StatusOr<Vocabulary> Vocabulary::Create(SentencePieceModel model, absl::string_view file) {
  Vocabulary vocabulary(std::move(model));
  MOED_RETURN_IF_ERROR(vocabulary.Index(file));
  return vocabulary;
}

absl::Status Vocabulary::Index(absl::string_view file) {
  if (byte_fallback()) byte_piece_ids_.assign(256, kNoToken);
  for (int32_t id = 0; id < size(); ++id) {
    const absl::string_view text = piece(id);
    if (text_ids_.contains(text) || reserved_ids_.contains(text)) {
      return PieceError(file, id, text, "each piece once", "it a second time");
    }
    if (IsTextPiece(type(id))) {
      text_ids_.emplace(text, id);
      max_text_piece_bytes_ = std::max(max_text_piece_bytes_, text.size());
      continue;
    }
    reserved_ids_.emplace(text, id);
    if (type(id) == PieceType::kControl && Utf8CodePointLength(text) == text.size()) {
      return PieceError(file, id, text, "a control piece of more than one character", "one");
    }
    if (type(id) == PieceType::kUnknown) {
      if (unk_id_ != kNoToken) {
        return PieceError(file, id, text, "one unknown piece", "a second one");
      }
      unk_id_ = id;
    }
    if (type(id) == PieceType::kByte) MOED_RETURN_IF_ERROR(IndexBytePiece(id, file));
  }
  if (unk_id_ == kNoToken) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": pieces: expected one of type UNKNOWN, found none"));
  }
  const auto missing = std::find(byte_piece_ids_.begin(), byte_piece_ids_.end(), kNoToken);
  if (missing != byte_piece_ids_.end()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: pieces: expected 256 byte pieces (trainer_spec.byte_fallback is set), "
                        "found none for <0x%02X>",
                        file, missing - byte_piece_ids_.begin()));
  }
  bos_id_ = FindControl(model_.bos_piece);
  eos_id_ = FindControl(model_.eos_piece);
  pad_id_ = FindControl(model_.pad_piece);
  return absl::OkStatus();
}

absl::Status Vocabulary::IndexBytePiece(int32_t id, absl::string_view file) {
  if (!byte_fallback()) {
    return PieceError(file, id, piece(id), "no byte pieces (trainer_spec.byte_fallback is unset)",
                      "one");
  }
  const int byte = ParseBytePiece(piece(id));
  if (byte < 0) {
    return PieceError(file, id, piece(id), "a byte piece <0x00> to <0xFF>", "another text");
  }
  byte_piece_ids_[byte] = id;
  return absl::OkStatus();
}

int32_t Vocabulary::FindControl(absl::string_view text) const {
  const auto found = reserved_ids_.find(text);
  if (found == reserved_ids_.end() || type(found->second) != PieceType::kControl) return kNoToken;
  return found->second;
}

int32_t Vocabulary::FindText(absl::string_view text) const {
  if (text.size() > max_text_piece_bytes_) return kNoToken;
  const auto found = text_ids_.find(text);
  return found == text_ids_.end() ? kNoToken : found->second;
}

uint8_t Vocabulary::byte_of(int32_t id) const {
  return static_cast<uint8_t>(ParseBytePiece(piece(id)));
}

}  // namespace moed
