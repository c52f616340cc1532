// Which experts each token id goes to: what experts specialise in. Tells about content, so it is
// off unless an operator asks for it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace moed {

struct TokenRoutingShape {
  int num_layers = 0;
  int num_experts = 0;
  int32_t vocab = 0;
};

// Counts of every (token id, layer, expert), exact until one reaches 2^32 - 1 and stays there. One
// thread at a time.
class TokenRouting {
 public:
  // vocab * num_layers * num_experts * 8 bytes: a table of first choices and one of all.
  // INVALID_ARGUMENT for a shape below 1; RESOURCE_EXHAUSTED with numbers over `max_bytes`.
  static absl::StatusOr<int64_t> Bytes(const TokenRoutingShape& shape, int64_t max_bytes);
  static absl::StatusOr<TokenRouting> Create(const TokenRoutingShape& shape, int64_t max_bytes);

  // Of rows with token_ids [num_rows], expert_ids [num_layers, num_rows, max_choices] in the order
  // of choice, -1: no choice. INTERNAL where the sizes do not agree or an id is out of range.
  absl::Status Check(absl::Span<const int32_t> token_ids,
                     absl::Span<const int16_t> expert_ids) const;
  // Counts them; they have passed Check.
  void Add(absl::Span<const int32_t> token_ids, absl::Span<const int16_t> expert_ids);

  const TokenRoutingShape& shape() const { return shape_; }
  int64_t num_rows() const { return num_rows_; }
  // [num_layers * num_experts] of a token id.
  absl::Span<const uint32_t> FirstChoices(int32_t token_id) const;
  absl::Span<const uint32_t> AllChoices(int32_t token_id) const;

 private:
  explicit TokenRouting(const TokenRoutingShape& shape);

  TokenRoutingShape shape_;
  int64_t num_rows_ = 0;
  // [vocab, num_layers, num_experts]: a row touches one stretch of each.
  std::vector<uint32_t> first_choices_;
  std::vector<uint32_t> all_choices_;
};

}  // namespace moed
