// What a client asks for, validated and tokenised. Plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/token_bias.h"

namespace moed {

// Times inside the engine never come from the wall clock, which may jump.
using TimePoint = std::chrono::steady_clock::time_point;

// Names a request inside the engine; never used twice. The client's request_id may be: once a
// request has ended, its id is free again.
using SequenceId = uint64_t;

// kStop: an end-of-sequence token, a stop token or a stop string. kLength: max_tokens, which the
// front end clips to the context. kTimeLimit: StoppingParams::time_limit.
enum class FinishReason : uint8_t { kStop, kLength, kTimeLimit };

// What each does, and in which order, is said at SamplingRow (kernels/backend.h). The defaults
// change nothing.
struct SamplingParams {
  float temperature = 1.0F;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0F;
  float min_p = 0.0F;
  float typical_p = 1.0F;
  uint64_t seed = 0;  // always set: the front end draws one where the client gave none
  int32_t n = 1;      // continuations of the prompt, [1, slots of a rank]
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  float repetition_penalty = 1.0F;
  std::vector<TokenBias> logit_bias;            // no id twice
  std::vector<int32_t> allowed_token_ids;       // ascending, no id twice; empty: all
  std::vector<std::vector<int32_t>> bad_words;  // token ids of each; none empty
};

struct StoppingParams {
  int32_t max_tokens = 0;  // > 0; the front end has clipped it to the context
  int32_t min_tokens = 0;  // the first min_tokens tokens are no stop tokens, and no stop string
                           // is matched that ends in their text (as vLLM does)
  std::vector<std::string> stop_strings;  // not empty, valid UTF-8
  std::vector<int32_t> stop_token_ids;
  std::vector<int32_t> eos_token_ids;  // the model's; empty with ignore_eos
  bool include_stop = false;           // the stop string or stop token is part of the text
  std::optional<std::chrono::milliseconds> time_limit;  // since the request was submitted, > 0
};

struct ResponseOptions {
  bool text = true;                  // false: token ids only, no tokenizer needed
  int32_t num_logprobs = -1;         // -1: none; 0: of the token; n: and of the n most likely
  int32_t num_prompt_logprobs = -1;  // the same for the prompt's tokens; where num_logprobs >= 0
                                     // and echo: at least that many
  // Of those in the PromptReport, where it is to have fewer than the echo needs; -1: none.
  std::optional<int32_t> num_reported_prompt_logprobs;
  bool echo = false;                // the prompt comes first in text, ids and logprobs
  bool skip_special_tokens = true;  // in text
  bool routed_experts = false;      // experts of every token of prompt and continuation
};

struct SchedulingParams {
  int32_t priority = 0;  // higher runs earlier
  std::optional<int> home_rank;
};

// The prefix cache. Requests share cached blocks only where their salts are equal.
struct CacheParams {
  bool bypass = false;  // neither takes blocks from the cache nor leaves any
  std::string salt;
};

struct GenerationRequest {
  std::string request_id;
  std::vector<int32_t> prompt_token_ids;  // at least one
  SamplingParams sampling;
  StoppingParams stopping;
  ResponseOptions response;
  int32_t experts_per_token = 0;  // 0: the model's
  SchedulingParams scheduling;
  CacheParams cache;
  std::optional<TimePoint> deadline;

  // Whether every position of the prompt has to be computed, cached or not.
  bool needs_every_position() const {
    return response.num_prompt_logprobs >= 0 || response.routed_experts;
  }
};

}  // namespace moed
