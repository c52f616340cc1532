#include "server/app/null_tokenizer.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/core/status.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/sentencepiece_model.h"

namespace moed {
namespace {

// Each piece is the join of two before it, so that the merges reach all of them.
class Pieces {
 public:
  void Add(std::string text, PieceType type) {
    const float score = type == PieceType::kNormal ? -num_normal_++ : 0;
    pieces_.push_back({std::move(text), score, type});
  }
  size_t size() const { return pieces_.size(); }
  std::vector<SentencePiece> Take() && { return std::move(pieces_); }

 private:
  std::vector<SentencePiece> pieces_;
  float num_normal_ = 0;
};

std::vector<std::string> Syllables() {
  std::vector<std::string> syllables;
  for (const char consonant : {'b', 'd', 'f', 'g', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v'}) {
    for (const char vowel : {'a', 'e', 'i', 'o', 'u'}) syllables.push_back({consonant, vowel});
  }
  return syllables;
}

}  // namespace

absl::StatusOr<NullTokenizer> MakeNullTokenizer() {
  Pieces pieces;
  pieces.Add("<unk>", PieceType::kUnknown);
  pieces.Add("<s>", PieceType::kControl);
  pieces.Add("</s>", PieceType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    pieces.Add(absl::StrFormat("<0x%02X>", byte), PieceType::kByte);
  }
  pieces.Add(std::string(kSpaceSymbol), PieceType::kNormal);
  for (char character = '!'; character <= '~'; ++character) {
    pieces.Add(std::string(1, character), PieceType::kNormal);
  }
  const std::vector<std::string> syllables = Syllables();
  for (const std::string& syllable : syllables) pieces.Add(syllable, PieceType::kNormal);
  for (const std::string& syllable : syllables) {
    pieces.Add(absl::StrCat(kSpaceSymbol, syllable), PieceType::kNormal);
  }
  NullTokenizer result;
  result.first_word_id = static_cast<int32_t>(pieces.size());
  for (const std::string& first : syllables) {
    for (const std::string& second : syllables) {
      pieces.Add(absl::StrCat(kSpaceSymbol, first, second), PieceType::kNormal);
    }
  }
  SentencePieceModel model;
  model.pieces = std::move(pieces).Take();
  model.byte_fallback = true;
  model.remove_extra_whitespaces = false;
  MOED_ASSIGN_OR_RETURN(result.tokenizer,
                        Tokenizer::Create(std::move(model), "the null model's tokenizer"));
  return result;
}

}  // namespace moed
