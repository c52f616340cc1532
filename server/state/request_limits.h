// What a request may ask for. Each limit is a flag of the daemon but where it says otherwise.
#pragma once

#include <cstdint>

namespace moed {

struct RequestLimits {
  int32_t message_bytes = 4 << 20;
  int32_t n = 16;
  int32_t logit_bias = 1024;
  int32_t bad_words = 64;
  int32_t bad_word_bytes = 256;
  int32_t stop_strings = 16;
  int32_t stop_string_bytes = 256;
  int32_t stop_token_ids = 64;
  int32_t time_limit_ms = 24 * 60 * 60 * 1000;  // no flag
  int32_t logprobs = 20;                        // at most kMaxLogprobs, which the samplers keep
  int32_t experts_per_token = 0;                // 0: the model's
  bool routed_experts = false;
  int32_t cache_salt_bytes = 256;  // no flag
  int32_t chat_messages = 1024;
  int32_t queued_requests = 1024;
  int32_t requests_per_client = 0;  // generations at a time; 0: no limit
  int32_t default_max_tokens = 1024;
};

}  // namespace moed
