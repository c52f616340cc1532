// Replays a trace of prompts, given as hashes of their blocks, through a Scheduler.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/schedule/scheduler.h"

namespace moed {

struct TraceRequest {
  int64_t arrival_ms = 0;
  int32_t output_tokens = 0;
  // Equal ids have equal contents and follow equal blocks.
  std::vector<int32_t> blocks;
};

// A line of JSON a request: timestamp in ms, output_length, hash_ids (the format of Mooncake's
// traces, Qin et al. 2025, https://github.com/kvcache-ai/Mooncake). In order of arrival.
absl::StatusOr<std::vector<TraceRequest>> ReadBlockTrace(const std::string& path);

// Tokens of a block of the trace and of the KV cache in a replay; the trace's blocks have 512.
inline constexpr int32_t kReplayBlockSize = 16;
inline constexpr int32_t kTraceBlockSize = 512;

struct ReplayOptions {
  int num_ranks = 1;
  int64_t num_blocks_per_rank = 0;
  int32_t token_budget = 64;  // of a rank and step
  int32_t max_sequences_per_rank = 64;
  double step_seconds = 0;      // 0: each request is through before the next arrives
  bool route_by_prefix = true;  // false: home ranks in turn
};

struct ReplayReport {
  int64_t num_blocks = 0;  // of all prompts
  int64_t num_cached = 0;  // of those, taken from the cache
  int64_t num_preemptions = 0;
  int64_t num_steps = 0;
  std::vector<double> first_token_seconds;  // from arrival to the end of the step, ascending

  double hit_rate() const {
    return static_cast<double>(num_cached) / static_cast<double>(num_blocks);
  }
};

// A prompt is its blocks, shrunk to kReplayBlockSize tokens, and one token of its own, so that all
// of its blocks may come from the cache. Outputs are shrunk alike and never equal.
ReplayReport ReplayTrace(const std::vector<TraceRequest>& trace, const ReplayOptions& options);

// Blocks of the trace that came up before: what a cache without limit finds.
int64_t CountRepeats(const std::vector<TraceRequest>& trace);
// What one cache of `capacity` blocks finds that forgets the block which was used least recently.
int64_t CountLruHits(const std::vector<TraceRequest>& trace, int64_t capacity);

}  // namespace moed
