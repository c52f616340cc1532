// The pieces of a model, by id and by text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/sentencepiece_model.h"

namespace moed {

// Immutable once made; any thread. Views it returns live as long as it does, moves included.
class Vocabulary {
 public:
  static constexpr int32_t kNoToken = -1;

  // INVALID_ARGUMENT, naming `file`, piece, expected and found: a text twice, no unknown piece or
  // two, byte pieces that do not fit byte_fallback, and a control piece of a single character
  // (sentencepiece would make that control id from plain text).
  static absl::StatusOr<Vocabulary> Create(SentencePieceModel model, absl::string_view file);

  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  int32_t size() const { return static_cast<int32_t>(model_.pieces.size()); }
  bool Contains(int32_t id) const { return id >= 0 && id < size(); }

  // The id must be in [0, size()).
  absl::string_view piece(int32_t id) const { return model_.pieces[id].text; }
  float score(int32_t id) const { return model_.pieces[id].score; }
  PieceType type(int32_t id) const { return model_.pieces[id].type; }

  // The id of a piece that text can become (normal, user-defined or unused) or kNoToken.
  int32_t FindText(absl::string_view text) const;
  // No text piece is longer than this, in bytes.
  size_t max_text_piece_bytes() const { return max_text_piece_bytes_; }

  int32_t unk_id() const { return unk_id_; }
  // The control pieces with the names that the model gives to these roles, or kNoToken.
  int32_t bos_id() const { return bos_id_; }
  int32_t eos_id() const { return eos_id_; }
  int32_t pad_id() const { return pad_id_; }

  bool byte_fallback() const { return model_.byte_fallback; }
  // With byte_fallback only: the id of the piece of this byte.
  int32_t byte_piece_id(uint8_t byte) const { return byte_piece_ids_[byte]; }
  // For an id of type kByte: its byte.
  uint8_t byte_of(int32_t id) const;

  // The settings beside the pieces.
  const SentencePieceModel& model() const { return model_; }

 private:
  explicit Vocabulary(SentencePieceModel model) : model_(std::move(model)) {}

  absl::Status Index(absl::string_view file);
  absl::Status IndexBytePiece(int32_t id, absl::string_view file);
  int32_t FindControl(absl::string_view text) const;

  SentencePieceModel model_;
  // Keys view model_.pieces, whose elements do not move.
  absl::flat_hash_map<absl::string_view, int32_t> text_ids_;
  absl::flat_hash_map<absl::string_view, int32_t> reserved_ids_;  // unknown, control, byte
  std::vector<int32_t> byte_piece_ids_;                           // [256], empty without fallback
  size_t max_text_piece_bytes_ = 0;
  int32_t unk_id_ = kNoToken;
  int32_t bos_id_ = kNoToken;
  int32_t eos_id_ = kNoToken;
  int32_t pad_id_ = kNoToken;
};

}  // namespace moed
