#include "kernels/cpu/adjust_logits.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/check.h"

namespace moed {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float Finite(double logit) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(logit, -kLargest, kLargest)) + 0.0F;
}

float Penalised(float logit, const SamplingRow& row, const SeenToken& token) {
  double result = logit;
  if (token.in_prompt || token.num_drawn > 0) {
    result = result > 0 ? result / row.repetition_penalty : result * row.repetition_penalty;
  }
  result -= static_cast<double>(row.frequency_penalty) * token.num_drawn;
  if (token.num_drawn > 0) result -= row.presence_penalty;
  return Finite(result);
}

}  // namespace

bool AdjustLogits(const SamplingRow& row, int64_t vocab, float* logits) {
  for (const TokenBias& token : row.logit_bias) {
    MOED_CHECK(token.token_id >= 0 && token.token_id < vocab,
               "Sample: a biased token id is out of range");
    MOED_CHECK(std::isfinite(token.bias), "Sample: a logit bias is not finite");
    float& logit = logits[token.token_id];
    if (logit != -kInfinity) logit = Finite(static_cast<double>(logit + token.bias));
  }
  if (row.repetition_penalty == 1 && row.frequency_penalty == 0 && row.presence_penalty == 0) {
    return !row.logit_bias.empty();
  }
  MOED_CHECK(std::isfinite(row.repetition_penalty) && std::isfinite(row.frequency_penalty) &&
                 std::isfinite(row.presence_penalty),
             "Sample: a penalty is not finite");
  for (const SeenToken& token : row.seen) {
    MOED_CHECK(token.token_id >= 0 && token.token_id < vocab,
               "Sample: a seen token id is out of range");
    float& logit = logits[token.token_id];
    if (logit != -kInfinity) logit = Penalised(logit, row, token);
  }
  return !row.logit_bias.empty() || !row.seen.empty();
}

}  // namespace moed
