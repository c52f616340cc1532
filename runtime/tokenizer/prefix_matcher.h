// Finds the longest user-defined piece at a place of a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/vocabulary.h"

namespace moed {

// A trie over the bytes of the user-defined pieces. Immutable once made; any thread.
class PrefixMatcher {
 public:
  explicit PrefixMatcher(const Vocabulary& vocabulary);

  bool empty() const { return next_.empty(); }
  // Bytes of the longest user-defined piece that `text` starts with; 0 where there is none.
  size_t Match(absl::string_view text) const;

 private:
  void Add(absl::string_view piece);

  // (node, byte) -> node; node 0 is the root.
  absl::flat_hash_map<std::pair<uint32_t, uint8_t>, uint32_t> next_;
  std::vector<bool> is_end_ = {false};  // by node
};

}  // namespace moed
