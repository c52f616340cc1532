#include "runtime/engine/slot_history.h"

#include <algorithm>

namespace moed {

void SlotHistory::Reset(const SlotInit& init, int64_t vocab, int64_t max_positions) {
  const SamplingParams& sampling = init.sampling;
  keeps_seen_ = sampling.presence_penalty != 0 || sampling.frequency_penalty != 0 ||
                sampling.repetition_penalty != 1;
  seen_.clear();
  if (keeps_seen_) {
    std::vector<int32_t> ids = init.prompt_token_ids;
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    // A prompt of the whole context is followed by one more token.
    seen_.reserve(static_cast<size_t>(std::min(vocab, max_positions + 1)));
    for (const int32_t id : ids) {
      seen_.push_back({.token_id = id, .num_drawn = 0, .in_prompt = true});
    }
  }
  num_recent_ = 0;
  for (const std::vector<int32_t>& word : sampling.bad_words) {
    num_recent_ = std::max(num_recent_, word.size() - 1);
  }
  recent_.clear();
  recent_.reserve(num_recent_);
  for (const int32_t id : init.generated_token_ids) Append(id);
}

void SlotHistory::Append(int32_t token_id) {
  if (keeps_seen_) ++Seen(token_id).num_drawn;
  if (num_recent_ == 0) return;
  if (recent_.size() == num_recent_) recent_.erase(recent_.begin());
  recent_.push_back(token_id);
}

SeenToken& SlotHistory::Seen(int32_t token_id) {
  const auto place =
      std::lower_bound(seen_.begin(), seen_.end(), token_id,
                       [](const SeenToken& token, int32_t id) { return token.token_id < id; });
  if (place != seen_.end() && place->token_id == token_id) return *place;
  return *seen_.insert(place, {.token_id = token_id, .num_drawn = 0, .in_prompt = false});
}

void SlotHistory::AppendBanned(absl::Span<const std::vector<int32_t>> bad_words,
                               std::vector<int32_t>& banned) const {
  for (const std::vector<int32_t>& word : bad_words) {
    const size_t num_before = word.size() - 1;
    if (num_before <= recent_.size() &&
        std::equal(word.begin(), word.end() - 1,
                   recent_.end() - static_cast<int64_t>(num_before))) {
      banned.push_back(word.back());
    }
  }
}

}  // namespace moed
