// Text to token ids and back, as SentencePiece's BPE does it (the oracle our tests compare with).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/prefix_matcher.h"
#include "runtime/tokenizer/sentencepiece_model.h"
#include "runtime/tokenizer/vocabulary.h"

namespace moed {

struct EncodeOptions {
  bool add_bos = false;  // the id of <s> first; without effect where bos_id() is kNoToken
};

struct Encoding {
  std::vector<int32_t> ids;
  // One per id: the bytes of the caller's text it stands for. Spans ascend and do not overlap.
  // Of a character spelled in byte pieces the last piece has the whole span, the others an empty
  // one before it; the beginning-of-sequence id has [0, 0). The dummy prefix has no bytes.
  std::vector<TextSpan> spans;
};

// Immutable once made: every method may be called from any number of threads.
class Tokenizer {
 public:
  static constexpr int32_t kNoToken = Vocabulary::kNoToken;  // -1
  // Texts above this are our caller's bug; the front ends bound requests far below.
  static constexpr size_t kMaxTextBytes = size_t{256} << 20;

  // Reads a SentencePiece `tokenizer.model`. Errors name the file and the field; see
  // SentencePieceModel and Vocabulary::Create.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& path);
  // The same from a file's contents; `file` only names it in errors.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromBytes(absl::string_view bytes,
                                                              absl::string_view file);
  // The same from what such a file would say; `name` stands for the file in errors.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(SentencePieceModel model,
                                                           absl::string_view name);

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text`. Text never becomes a control or unknown-by-name id: "<s>" in it is three
  // characters. Malformed UTF-8 is read as sentencepiece reads it: each offending byte as U+FFFD.
  // O(n log n) in the bytes of the text, whatever it holds.
  std::vector<int32_t> Encode(absl::string_view text, const EncodeOptions& options = {}) const;
  Encoding EncodeWithOffsets(absl::string_view text, const EncodeOptions& options = {}) const;

  // The text of `ids` as a whole text: the dummy prefix's space is taken off its beginning, byte
  // pieces are joined to code points, bytes that make none become U+FFFD each. Control pieces
  // (<s>, </s>) vanish, or with skip_special_tokens false stand as their names; the unknown piece
  // gives the model's unk_surface either way. The result is well-formed UTF-8.
  // INVALID_ARGUMENT: an id outside [0, vocab_size), with its index.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids,
                                     bool skip_special_tokens = true) const;

  int32_t vocab_size() const { return vocabulary_.size(); }
  // kNoToken where the model has no such control piece. There is always an unknown piece.
  int32_t bos_id() const { return vocabulary_.bos_id(); }
  int32_t eos_id() const { return vocabulary_.eos_id(); }
  int32_t pad_id() const { return vocabulary_.pad_id(); }
  int32_t unk_id() const { return vocabulary_.unk_id(); }

  // For all of these the id must be in [0, vocab_size); Contains() asks.
  bool Contains(int32_t id) const { return vocabulary_.Contains(id); }
  // The piece as the file spells it: "▁Hello", "<0x0A>", "<s>". Lives as long as this object.
  absl::string_view IdToPiece(int32_t id) const { return vocabulary_.piece(id); }
  bool IsControl(int32_t id) const { return vocabulary_.type(id) == PieceType::kControl; }

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  explicit Tokenizer(Vocabulary vocabulary);

  Encoding EncodeInto(absl::string_view text, const EncodeOptions& options, bool with_spans) const;

  Vocabulary vocabulary_;  // the others view it
  PrefixMatcher user_defined_;
  Normalizer normalizer_;
  BpeEncoder bpe_;
};

}  // namespace moed
