// What a client asks for, validated and tokenised. Plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moed {

// Times inside the engine never come from the wall clock, which may jump.
using TimePoint = std::chrono::steady_clock::time_point;

struct SamplingParams {
  float temperature = 1.0F;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0F;
  float min_p = 0.0F;
  uint64_t seed = 0;  // always set: the front end draws one where the client gave none
};

struct StoppingParams {
  int32_t max_tokens = 0;  // > 0; the front end has clipped it to the context
  int32_t min_tokens = 0;  // stop tokens are not sampled, stop strings not matched before
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;
  std::vector<int32_t> eos_token_ids;  // the model's; empty with ignore_eos
};

struct ResponseOptions {
  bool text = true;           // false: token ids only, no tokenizer needed
  int32_t num_logprobs = -1;  // -1: none; 0: of the token; n: and of the n most likely
};

struct GenerationRequest {
  std::string request_id;
  std::vector<int32_t> prompt_token_ids;  // at least one
  SamplingParams sampling;
  StoppingParams stopping;
  ResponseOptions response;
  std::optional<TimePoint> deadline;
};

}  // namespace moed
