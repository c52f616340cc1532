// The scheduler's own state of a request and of its continuations.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "runtime/schedule/block_hash.h"
#include "runtime/schedule/request.h"
#include "runtime/schedule/sequence_events.h"

namespace moed {

struct ScheduledRequest;

// One continuation. It waits, or runs in a slot of its home rank.
struct Sequence {
  ScheduledRequest* owner = nullptr;
  int32_t choice = 0;

  // Tokens. Those drawn in a step that has not been committed are counted, but not known.
  std::vector<int32_t> generated_token_ids;
  int32_t num_in_flight = 0;

  // While it runs.
  int rank = -1;  // home rank; -1: it waits
  int32_t slot = -1;
  std::vector<int32_t> blocks;      // in the order of the block table
  int32_t num_sent_blocks = 0;      // of them, those that the rank knows of
  int32_t num_computed_tokens = 0;  // whose keys and values are, or are being, written
  int32_t prefill_target = 0;       // tokens that were known when it was admitted
  std::vector<int32_t> fork_slots;  // choice 0, until the prompt is computed: of the others
  // A fork's last block belongs to choice 0, and is copied before the fork writes into it.
  bool must_copy_last_block = false;

  std::vector<BlockHash> hashes;     // of the known full blocks, from the first
  int64_t num_published_blocks = 0;  // of `blocks`, from the first; tried, if not the first
  int32_t num_lost_tokens = 0;       // that were computed when it was last preempted
  int32_t num_reported_tokens = 0;   // positions whose ChunkReport has been handed out
  SequenceUsage usage;

  bool is_running() const { return rank >= 0; }
  int32_t num_prompt_tokens() const;
  int32_t num_generated() const { return static_cast<int32_t>(generated_token_ids.size()); }
  // Prompt and generated tokens that are known.
  int32_t num_known_tokens() const { return num_prompt_tokens() + num_generated(); }
  // Computes what is known before it draws; else it decodes, a token a step.
  bool is_prefilling() const { return num_computed_tokens < prefill_target; }
  // Tokens it has drawn or will have drawn when the steps that are planned have run.
  int32_t num_drawn() const { return num_generated() + num_in_flight; }
  int32_t token(int32_t position) const;
};

// A request: one continuation until its prompt is computed, then n.
struct ScheduledRequest {
  SequenceId id = 0;
  GenerationRequest request;
  TimePoint submitted_at;
  // Requests are served in the order of (serve_at, id): the time of arrival, moved by the priority.
  TimePoint serve_at;
  std::optional<TimePoint> time_limit_at;
  std::optional<TimePoint> scheduled_at;   // its first place in a step
  std::optional<absl::Status> end_status;  // set: to be ended before the next step
  // Continuations that have not ended; nullptr for those that have, or are not there yet.
  std::vector<std::unique_ptr<Sequence>> choices;  // [n]
  bool is_split = false;  // the prompt is computed, or planned to be: all continuations are there
  int32_t num_live = 1;   // those that have not ended, the ones that are not there yet included
};

inline int32_t Sequence::num_prompt_tokens() const {
  return static_cast<int32_t>(owner->request.prompt_token_ids.size());
}

inline int32_t Sequence::token(int32_t position) const {
  const std::vector<int32_t>& prompt = owner->request.prompt_token_ids;
  const auto i = static_cast<size_t>(position);
  return i < prompt.size() ? prompt[i] : generated_token_ids[i - prompt.size()];
}

// KV slots that a continuation can come to need: the last token is sampled but never fed back.
inline int64_t MaxKvTokens(const GenerationRequest& request) {
  return static_cast<int64_t>(request.prompt_token_ids.size()) + request.stopping.max_tokens - 1;
}

}  // namespace moed
