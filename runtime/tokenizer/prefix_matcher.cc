#include "runtime/tokenizer/prefix_matcher.h"

namespace moed {

PrefixMatcher::PrefixMatcher(const Vocabulary& vocabulary) {
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.type(id) == PieceType::kUserDefined) Add(vocabulary.piece(id));
  }
}

void PrefixMatcher::Add(absl::string_view piece) {
  uint32_t node = 0;
  for (const char byte : piece) {
    const uint32_t fresh = static_cast<uint32_t>(is_end_.size());
    const auto [entry, inserted] = next_.try_emplace({node, static_cast<uint8_t>(byte)}, fresh);
    if (inserted) is_end_.push_back(false);
    node = entry->second;
  }
  is_end_[node] = true;
}

size_t PrefixMatcher::Match(absl::string_view text) const {
  if (next_.empty()) return 0;
  size_t longest = 0;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto entry = next_.find({node, static_cast<uint8_t>(text[i])});
    if (entry == next_.end()) break;
    node = entry->second;
    if (is_end_[node]) longest = i + 1;
  }
  return longest;
}

}  // namespace moed
