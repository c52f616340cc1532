// What the sampling of one slot looks back at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Empty where NeedsHistory is false. What it holds is a function of the prompt and of the drawn
// tokens in their order: whether they came one by one or with the admission does not show.
class SlotHistory {
 public:
  // Starts anew with the prompt and the tokens drawn before. Takes memory for the longest
  // continuation of a model with these limits, so that Append takes none.
  void Reset(const SlotInit& init, int64_t vocab, int64_t max_positions);
  // A token was drawn.
  void Append(int32_t token_id);

  // By rising id; empty unless a penalty is set.
  absl::Span<const SeenToken> seen() const { return seen_; }

  // Adds the last token of every bad word whose other tokens, in their order, are the ones drawn
  // last (as vLLM does: the prompt does not count, and a word of one token is always banned).
  // `bad_words` are those of Reset.
  void AppendBanned(absl::Span<const std::vector<int32_t>> bad_words,
                    std::vector<int32_t>& banned) const;

 private:
  // The entry of a token, made where there is none.
  SeenToken& Seen(int32_t token_id);

  bool keeps_seen_ = false;
  std::vector<SeenToken> seen_;  // by rising id
  size_t num_recent_ = 0;        // tokens that the longest bad word looks back at
  std::vector<int32_t> recent_;  // the last ones drawn, at most num_recent_
};

}  // namespace moed
