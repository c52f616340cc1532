// Log-softmax of raw logits: of one token of each row, and of the most likely ones.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

struct LogSoftmaxParams {
  const float* logits = nullptr;   // [num_rows, vocab]
  const int32_t* token = nullptr;  // [num_rows]; -infinity is written for one outside [0, vocab)
  int64_t num_rows = 0;            // > 0
  int64_t vocab = 0;               // > 0
  int num_top = 0;                 // columns of the two `top` outputs; 0: they are not written
  float* logprobs = nullptr;       // [num_rows]
  int32_t* top_ids = nullptr;      // [num_rows, num_top]
  float* top_logprobs = nullptr;   // [num_rows, num_top]
};

// num_top is at most kMaxTopTokens.
inline constexpr int kMaxTopTokens = 32;
LaunchError LaunchLogSoftmax(const LaunchContext& context, const LogSoftmaxParams& params);

}  // namespace moed::cuda
