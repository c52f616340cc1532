// Serves a request mix by an engine on rank threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/output/generation_sink.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/golden/golden_model.h"
#include "tests/golden/request_mix.h"

namespace moed {

// All deltas of a continuation, one after the other.
struct MixChoice {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprob> logprobs;
  std::vector<int16_t> routed_experts;
  std::optional<ChoiceFinish> finish;
};

struct MixOutput {
  std::vector<MixChoice> choices;  // [n]
  std::optional<PromptReport> prompt;
  absl::Status status;  // GenerationFinish
};

struct MixCounts {
  int64_t steps = 0;
  int64_t rows = 0;
  int64_t preemptions = 0;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t cache_hits =
      0;              // admissions that took blocks from the cache, those after a preemption too
  int64_t forks = 0;  // continuations that took a computed prompt
  int64_t block_copies = 0;

  void Add(const MixCounts& other);
};

struct MixRun {
  std::vector<MixOutput> outputs;  // by request
  MixCounts counts;
  // What was wrong with the run as a whole: choices that were not counted, blocks that are not
  // free. Empty: nothing.
  std::string violation;
};

// What is in a step is a function of the mix: requests arrive, and time goes on, by steps. Only
// where all that came is done before the next arrives can the engine be one step further.
absl::StatusOr<MixRun> RunMix(const RequestMix& mix, const GoldenModel& model,
                              const Tokenizer& tokenizer);

}  // namespace moed
