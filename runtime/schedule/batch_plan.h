// One step's work for the ranks, and what comes back. Plain values without pointers, so that a rank
// may live in another process.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "parallel/exchange_strategy.h"
#include "runtime/schedule/request.h"

namespace moed {

// An input token that is the one last sampled in the chunk's slot.
inline constexpr int32_t kLastSampledToken = -1;

// What a rank must know of a sequence to sample for it; sent when its slot is filled, and again
// when it comes back after a preemption.
struct SlotInit {
  int32_t slot = 0;  // [0, max_sequences per rank)
  SamplingParams sampling;
  uint32_t choice_index = 0;                  // [0, sampling.n)
  int32_t num_logprobs = -1;                  // ResponseOptions::num_logprobs
  int32_t num_prompt_logprobs = -1;           // ResponseOptions::num_prompt_logprobs
  bool routed_experts = false;                // ResponseOptions::routed_experts
  int32_t experts_per_token = 0;              // of its rows; 0: the model's
  std::vector<int32_t> suppressed_token_ids;  // while `suppress` is set in the chunk
  // Tokens that the sampling looks back at, where it does (NeedsHistory); else empty.
  std::vector<int32_t> prompt_token_ids;
  std::vector<int32_t> generated_token_ids;  // before a preemption
};

// Whether drawing a token depends on tokens drawn before, other than through the model.
inline bool NeedsHistory(const SamplingParams& sampling) {
  return sampling.presence_penalty != 0 || sampling.frequency_penalty != 0 ||
         sampling.repetition_penalty != 1 || !sampling.bad_words.empty();
}

// Consecutive tokens of one sequence: a piece of its prompt, or one decoded token.
struct SequenceChunk {
  int32_t slot = 0;
  // The slot's first chunk may start past 0: `new_blocks` then hold what comes before.
  int32_t start_position = 0;
  std::vector<int32_t> tokens;      // ids, or kLastSampledToken; never empty
  std::vector<int32_t> new_blocks;  // appended to the slot's block table before the step
  bool sample = false;              // draw a token after the last of `tokens`
  bool suppress = false;            // with the slot's suppressed ids (min_tokens not reached)
  // With `sample`: these slots, admitted in this step, draw a token after the same row, each with
  // its own parameters (n continuations of one prompt). `suppress` counts for them too.
  std::vector<int32_t> fork_slots;
  // Where prompt logprobs are wanted: what follows tokens[i] in the prompt, for each token but the
  // prompt's last.
  std::vector<int32_t> logprob_targets;
};

// Keys and values of a whole block, of every layer, copied before the step's chunks are computed.
struct BlockCopy {
  int32_t from = 0;
  int32_t to = 0;
};

struct RankBatch {
  uint64_t step = 0;
  // The same on every rank.
  ExchangeStrategy exchange = ExchangeStrategy::kExact;
  int32_t padded_rows = 0;  // gather: the most rows of any rank
  // This rank's own. A slot in `admitted` starts with an empty block table.
  std::vector<SlotInit> admitted;
  std::vector<BlockCopy> block_copies;  // in this order
  std::vector<SequenceChunk> chunks;    // may be empty: the rank still joins every collective

  int32_t num_rows() const {
    int32_t count = 0;
    for (const SequenceChunk& chunk : chunks) count += static_cast<int32_t>(chunk.tokens.size());
    return count;
  }
};

// A token with its log probability and those of the most likely ones.
struct SampledToken {
  int32_t slot = 0;
  int32_t token_id = 0;
  float logprob = 0;                                    // natural log; SampleArgs
  std::vector<std::pair<int32_t, float>> top_logprobs;  // [SlotInit::num_logprobs]
};

// What a chunk gave besides tokens; only of chunks that have something to say.
struct ChunkReport {
  int32_t slot = 0;
  int32_t start_position = 0;                 // of the chunk
  std::vector<SampledToken> prompt_logprobs;  // [logprob_targets]: of each target
  // [num_tokens, num_layers, experts_per_token] expert ids in the order of choice, dropped pairs
  // included. Empty unless SlotInit::routed_experts.
  std::vector<int16_t> routed_experts;
  int64_t dropped_pairs = 0;  // by the capacity factor, over all layers
};

// How often a token went to the expert of the token before it in its sequence; a layer each
// (Jiang et al. 2024, "Mixtral of Experts", table 5). Of rows whose predecessor was computed in
// the same stay in a slot.
struct RepetitionCounts {
  int64_t num_rows = 0;             // rows that have a predecessor
  std::vector<int64_t> same_first;  // [num_layers] rows with the predecessor's first choice
  std::vector<int64_t> any_shared;  // [num_layers] rows that share a first or second choice with
                                    // the predecessor, in whichever order
};

// Every row of a step with its choices; for operators who look at what experts specialise in.
struct RoutingTrace {
  std::vector<int32_t> token_ids;   // [num_rows] the input tokens
  std::vector<int16_t> expert_ids;  // [num_layers, num_rows, max experts per token]; -1: no choice
};

struct RankResult {
  uint64_t step = 0;
  // In the order of the chunks that asked; after a chunk's own those of its fork_slots.
  std::vector<SampledToken> samples;
  std::vector<ChunkReport> reports;    // in the order of the chunks
  std::vector<int64_t> expert_counts;  // [num_layers * num_experts]: choices of this rank's own
                                       // rows in this step, those dropped included
  int64_t dropped_pairs = 0;           // of all rows and layers
  RepetitionCounts repetition;
  RoutingTrace routing;  // empty unless the group was started with it
  // Wall time of the step without collective_wait_seconds; includes waits for compute permits that
  // other ranks of the process hold.
  double compute_seconds = 0;
  double collective_wait_seconds = 0;
  int64_t exchange_bytes_sent = 0;
  int64_t exchange_bytes_received = 0;
};

}  // namespace moed
