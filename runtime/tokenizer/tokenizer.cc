#include "runtime/tokenizer/tokenizer.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/tokenizer/incremental_detokenizer.h"

namespace moed {

Tokenizer::Tokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)),
      user_defined_(vocabulary_),
      normalizer_(vocabulary_.model(), &user_defined_),
      bpe_(&vocabulary_, &user_defined_) {}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& path) {
  MOED_ASSIGN_OR_RETURN(SentencePieceModel model, SentencePieceModel::Load(path));
  return Create(std::move(model), path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromBytes(absl::string_view bytes,
                                                                absl::string_view file) {
  MOED_ASSIGN_OR_RETURN(SentencePieceModel model, SentencePieceModel::Parse(bytes, file));
  return Create(std::move(model), file);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(SentencePieceModel model,
                                                             absl::string_view name) {
  MOED_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Create(std::move(model), name));
  return absl::WrapUnique(new Tokenizer(std::move(vocabulary)));
}

std::vector<int32_t> Tokenizer::Encode(absl::string_view text, const EncodeOptions& options) const {
  return EncodeInto(text, options, /*with_spans=*/false).ids;
}

Encoding Tokenizer::EncodeWithOffsets(absl::string_view text, const EncodeOptions& options) const {
  return EncodeInto(text, options, /*with_spans=*/true);
}

Encoding Tokenizer::EncodeInto(absl::string_view text, const EncodeOptions& options,
                               bool with_spans) const {
  MOED_CHECK(text.size() <= kMaxTextBytes, "the caller bounds the text");
  Encoding encoding;
  const auto add = [&](int32_t id, TextSpan span) {
    encoding.ids.push_back(id);
    if (with_spans) encoding.spans.push_back(span);
  };
  if (options.add_bos && bos_id() != kNoToken) add(bos_id(), {0, 0});

  const NormalizedText normalized = normalizer_.Normalize(text, with_spans);
  const std::vector<BpeToken> tokens = bpe_.Encode(normalized.text);
  encoding.ids.reserve(encoding.ids.size() + tokens.size());
  size_t position = 0;  // in the normalised text
  bool after_unknown = false;
  for (const BpeToken& token : tokens) {
    TextSpan span;
    if (with_spans) {
      span = {normalized.origins[position], normalized.origins[position + token.text.size()]};
    }
    position += token.text.size();
    const bool is_unknown = token.id == kNoToken;
    if (!is_unknown) {
      add(token.id, span);
    } else if (vocabulary_.byte_fallback()) {
      for (size_t i = 0; i < token.text.size(); ++i) {
        const bool is_last = i + 1 == token.text.size();
        add(vocabulary_.byte_piece_id(static_cast<uint8_t>(token.text[i])),
            is_last ? span : TextSpan{span.begin, span.begin});
      }
    } else if (!after_unknown) {
      add(unk_id(), span);
    } else if (with_spans) {
      encoding.spans.back().end = span.end;  // a run of unknown characters is one token
    }
    after_unknown = is_unknown;
  }
  return encoding;
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> ids,
                                              bool skip_special_tokens) const {
  IncrementalDetokenizer detokenizer(*this, {skip_special_tokens});
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!Contains(ids[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("token_ids[", i, "]: expected 0 to ", vocab_size() - 1, ", found ", ids[i]));
    }
    detokenizer.Feed(ids[i], &text);
  }
  text += detokenizer.Flush();
  return text;
}

}  // namespace moed
