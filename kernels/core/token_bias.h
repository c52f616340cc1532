// What a request adds to the logit of a token.
#pragma once

#include <cstdint>

namespace moed {

struct TokenBias {
  int32_t token_id = 0;
  float bias = 0;
};

}  // namespace moed
