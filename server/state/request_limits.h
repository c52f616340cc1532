// What a request may ask for. Each limit is a flag of the daemon.
#pragma once

#include <cstdint>

namespace moed {

struct RequestLimits {
  int32_t message_bytes = 4 << 20;
  int32_t stop_strings = 16;
  int32_t stop_string_bytes = 256;
  int32_t stop_token_ids = 64;
  int32_t logprobs = 20;  // no flag: the samplers keep this many
  int32_t chat_messages = 1024;
  int32_t n = 16;  // no flag: more than 1 is not supported yet
  int32_t queued_requests = 1024;
  int32_t default_max_tokens = 1024;
};

}  // namespace moed
