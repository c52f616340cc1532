#include "runtime/tokenizer/normalizer.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "runtime/tokenizer/utf8.h"

namespace moed {
namespace {

void AppendFrom(absl::string_view bytes, size_t origin, bool with_origins, NormalizedText* out) {
  out->text.append(bytes.data(), bytes.size());
  if (with_origins) {
    out->origins.insert(out->origins.end(), bytes.size(), static_cast<uint32_t>(origin));
  }
}

}  // namespace

Normalizer::Normalizer(const SentencePieceModel& model, const PrefixMatcher* user_defined)
    : user_defined_(user_defined),
      add_dummy_prefix_(model.add_dummy_prefix),
      remove_extra_whitespaces_(model.remove_extra_whitespaces) {}

Normalizer::Chunk Normalizer::NextChunk(absl::string_view rest) const {
  const size_t matched = user_defined_->Match(rest);
  if (matched > 0) return {rest.substr(0, matched), matched};
  const size_t length = Utf8CodePointLength(rest);
  if (length == 0) return {kReplacementCharacter, 1};
  return {rest.substr(0, length), length};
}

NormalizedText Normalizer::Normalize(absl::string_view text, bool with_origins) const {
  NormalizedText out;
  size_t consumed = 0;
  if (remove_extra_whitespaces_) {
    while (consumed < text.size()) {
      const Chunk chunk = NextChunk(text.substr(consumed));
      if (chunk.output != " ") break;
      consumed += chunk.num_bytes;
    }
  }
  if (consumed == text.size()) return out;

  // Spaces triple; most other characters keep their size.
  const size_t num_spaces = static_cast<size_t>(std::count(text.begin(), text.end(), ' '));
  const size_t expected_bytes = text.size() + (num_spaces + 1) * (kSpaceSymbol.size() - 1) + 1;
  out.text.reserve(expected_bytes);
  if (with_origins) out.origins.reserve(expected_bytes + 1);

  if (add_dummy_prefix_) AppendFrom(kSpaceSymbol, consumed, with_origins, &out);
  bool after_space = remove_extra_whitespaces_;
  while (consumed < text.size()) {
    const Chunk chunk = NextChunk(text.substr(consumed));
    absl::string_view output = chunk.output;
    while (after_space && absl::StartsWith(output, " ")) output.remove_prefix(1);
    if (!output.empty()) {
      after_space = remove_extra_whitespaces_ && absl::EndsWith(output, " ");
    }
    for (const char& byte : output) {
      AppendFrom(byte == ' ' ? kSpaceSymbol : absl::string_view(&byte, 1), consumed, with_origins,
                 &out);
    }
    consumed += chunk.num_bytes;
  }

  while (remove_extra_whitespaces_ && absl::EndsWith(out.text, kSpaceSymbol)) {
    const size_t length = out.text.size() - kSpaceSymbol.size();
    out.text.resize(length);
    if (with_origins) {
      consumed = out.origins[length];
      out.origins.resize(length);
    }
  }
  if (with_origins) out.origins.push_back(static_cast<uint32_t>(consumed));
  return out;
}

}  // namespace moed
