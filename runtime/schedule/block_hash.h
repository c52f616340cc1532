// Names the content of a KV block: its tokens, all tokens before it, and whatever else changes what
// is computed from them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace moed {

// The first 128 bits of a SHA-256 (FIPS 180-4). A client who finds two prompts with one hash could
// read another's keys and values, so a quick hash will not do.
struct BlockHash {
  std::array<uint64_t, 2> words = {};

  friend bool operator==(const BlockHash&, const BlockHash&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const BlockHash& hash) {
    return H::combine(std::move(state), hash.words[0], hash.words[1]);
  }
};

// What a prompt's first block follows. Blocks are shared only between requests whose roots are
// equal: the k of the router and the client's salt are in it.
BlockHash RootHash(int32_t experts_per_token, absl::string_view salt);

// The block with `tokens` that follows the block `parent`.
BlockHash NextHash(const BlockHash& parent, absl::Span<const int32_t> tokens);

}  // namespace moed
