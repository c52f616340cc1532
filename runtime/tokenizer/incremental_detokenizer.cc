#include "runtime/tokenizer/incremental_detokenizer.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/utf8.h"

namespace moed {
namespace {

// A piece as text: U+2581 is a space.
void AppendUnescaped(absl::string_view piece, std::string* text) {
  size_t position = 0;
  while (position < piece.size()) {
    const size_t space = std::min(piece.find(kSpaceSymbol, position), piece.size());
    text->append(piece.data() + position, space - position);
    if (space == piece.size()) return;
    text->push_back(' ');
    position = space + kSpaceSymbol.size();
  }
}

}  // namespace

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer,
                                               const DetokenizeOptions& options,
                                               absl::Span<const int32_t> prompt_ids)
    : vocabulary_(&tokenizer.vocabulary()), options_(options) {
  // The prompt acts through two things only: whether it has begun the text, which its first ids
  // tell, and the run of bytes it ends with.
  size_t num_read = 0;
  std::string discarded;
  while (num_read < prompt_ids.size() && at_beginning_) Feed(prompt_ids[num_read++], &discarded);
  size_t run_begin = prompt_ids.size();
  while (run_begin > num_read && vocabulary_->Contains(prompt_ids[run_begin - 1]) &&
         vocabulary_->type(prompt_ids[run_begin - 1]) == PieceType::kByte) {
    --run_begin;
  }
  if (run_begin > num_read) EndByteRun(&discarded);
  for (size_t i = run_begin; i < prompt_ids.size(); ++i) Feed(prompt_ids[i], &discarded);
}

std::string IncrementalDetokenizer::Feed(int32_t id) {
  std::string text;
  Feed(id, &text);
  return text;
}

void IncrementalDetokenizer::Feed(int32_t id, std::string* text) {
  const size_t size_before = text->size();
  if (vocabulary_->Contains(id) && vocabulary_->type(id) == PieceType::kByte) {
    FeedByte(static_cast<char>(vocabulary_->byte_of(id)), text);
  } else {
    EndByteRun(text);
    if (text->size() > size_before) at_beginning_ = false;
    FeedPiece(id, text);
  }
  if (text->size() > size_before) at_beginning_ = false;
}

std::string IncrementalDetokenizer::Flush() {
  std::string text;
  EndByteRun(&text);
  if (!text.empty()) at_beginning_ = false;
  return text;
}

void IncrementalDetokenizer::FeedByte(char byte, std::string* text) {
  pending_[num_pending_++] = byte;
  while (num_pending_ > 0) {
    const absl::string_view pending(pending_, num_pending_);
    const size_t length = Utf8CodePointLength(pending);
    if (length > 0) {
      text->append(pending_, length);
      std::copy(pending_ + length, pending_ + num_pending_, pending_);
      num_pending_ -= length;
    } else if (IsUtf8CodePointPrefix(pending)) {
      return;
    } else {
      ReplaceFirstPendingByte(text);
    }
  }
}

void IncrementalDetokenizer::FeedPiece(int32_t id, std::string* text) {
  if (!vocabulary_->Contains(id)) {
    text->append(kReplacementCharacter.data(), kReplacementCharacter.size());
    return;
  }
  absl::string_view piece = vocabulary_->piece(id);
  const SentencePieceModel& model = vocabulary_->model();
  switch (vocabulary_->type(id)) {
    case PieceType::kControl:
      if (!options_.skip_special_tokens) text->append(piece.data(), piece.size());
      return;
    case PieceType::kUnknown:
      text->append(model.unk_surface);
      return;
    default:
      break;
  }
  const bool drops_space = model.add_dummy_prefix || model.remove_extra_whitespaces;
  if (at_beginning_ && drops_space && absl::StartsWith(piece, kSpaceSymbol)) {
    piece.remove_prefix(kSpaceSymbol.size());
    at_beginning_ = model.remove_extra_whitespaces;
  }
  AppendUnescaped(piece, text);
}

void IncrementalDetokenizer::EndByteRun(std::string* text) {
  while (num_pending_ > 0) ReplaceFirstPendingByte(text);
}

void IncrementalDetokenizer::ReplaceFirstPendingByte(std::string* text) {
  text->append(kReplacementCharacter.data(), kReplacementCharacter.size());
  std::copy(pending_ + 1, pending_ + num_pending_, pending_);
  --num_pending_;
}

}  // namespace moed
