// A tokenizer without a file, for the null model.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

struct NullTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;
  int32_t first_word_id = 0;  // the words of the null model are [first_word_id, vocab_size)
};

// SentencePiece BPE over <unk>, <s>, </s>, the 256 bytes, the printable ASCII characters and
// syllables ("to", "▁to"), with every two of them as a word ("▁tori"): about five bytes a token,
// as in English text, and nothing that reads like an answer.
absl::StatusOr<NullTokenizer> MakeNullTokenizer();

}  // namespace moed
