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

// Names a request inside the engine; never used twice. The client's request_id may be: once a
// request has ended, its id is free again.
using SequenceId = uint64_t;

// kStop: an end-of-sequence token, a stop token or a stop string. kLength: max_tokens, which the
// front end clips to the context.
enum class FinishReason : uint8_t { kStop, kLength };

struct SamplingParams {
  float temperature = 1.0F;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0F;
  float min_p = 0.0F;
  uint64_t seed = 0;  // always set: the front end draws one where the client gave none
};

struct StoppingParams {
  int32_t max_tokens = 0;  // > 0; the front end has clipped it to the context
  int32_t min_tokens = 0;  // the first min_tokens tokens are no stop tokens, and no stop string
                           // is matched that ends in their text (as vLLM does)
  std::vector<std::string> stop_strings;  // not empty, valid UTF-8
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
