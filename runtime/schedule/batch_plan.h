// One step's work for the ranks, and what comes back. Plain values without pointers, so that a rank
// may live in another process.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "parallel/exchange_strategy.h"

namespace moed {

// An input token that is the one last sampled in the chunk's slot.
inline constexpr int32_t kLastSampledToken = -1;

// What a rank must know of a sequence to sample for it; sent once, when its slot is filled.
struct SlotInit {
  int32_t slot = 0;  // [0, max_sequences per rank)
  float temperature = 1.0F;
  int32_t top_k = 0;
  float top_p = 1.0F;
  float min_p = 0.0F;
  uint64_t seed = 0;
  int32_t num_logprobs = -1;                  // ResponseOptions::num_logprobs
  std::vector<int32_t> suppressed_token_ids;  // while `suppress` is set in the chunk
};

// Consecutive tokens of one sequence: a piece of its prompt, or one decoded token.
struct SequenceChunk {
  int32_t slot = 0;
  int32_t start_position = 0;
  std::vector<int32_t> tokens;      // ids, or kLastSampledToken; never empty
  std::vector<int32_t> new_blocks;  // appended to the slot's block table before the step
  bool sample = false;              // draw a token after the last of `tokens`
  bool suppress = false;            // with the slot's suppressed ids (min_tokens not reached)
};

struct RankBatch {
  uint64_t step = 0;
  // The same on every rank.
  ExchangeStrategy exchange = ExchangeStrategy::kExact;
  int32_t padded_rows = 0;  // gather: the most rows of any rank
  // This rank's own. A slot in `admitted` starts with an empty block table.
  std::vector<SlotInit> admitted;
  std::vector<SequenceChunk> chunks;  // may be empty: the rank still joins every collective

  int32_t num_rows() const {
    int32_t count = 0;
    for (const SequenceChunk& chunk : chunks) count += static_cast<int32_t>(chunk.tokens.size());
    return count;
  }
};

struct SampledToken {
  int32_t slot = 0;
  int32_t token_id = 0;
  float logprob = 0;                                    // natural log; SampleArgs
  std::vector<std::pair<int32_t, float>> top_logprobs;  // [SlotInit::num_logprobs]
};

struct RankResult {
  uint64_t step = 0;
  std::vector<SampledToken> samples;   // in the order of the chunks that asked
  std::vector<int64_t> expert_counts;  // [num_layers * num_experts]: choices of this rank's own
                                       // rows in this step
  // Wall time of the step without collective_wait_seconds; includes waits for compute permits that
  // other ranks of the process hold.
  double compute_seconds = 0;
  double collective_wait_seconds = 0;
  int64_t exchange_bytes_sent = 0;
  int64_t exchange_bytes_received = 0;
};

}  // namespace moed
