#include "kernels/cpu/fast/log_softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/backend.h"

namespace moed::fast {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

float Tame(float logit) {
  const float number = logit == logit ? logit : -kInfinity;
  return std::min(number, std::numeric_limits<float>::max()) + 0.0F;
}

float LogSoftmax::Of(float tamed_logit) const {
  if (tamed_logit == -kInfinity) return -kInfinity;
  return static_cast<float>(static_cast<double>(tamed_logit) - largest - log_sum);
}

LogSoftmax TameRow(const IsaKernels& isa, const float* logits, int64_t vocab, float* tamed) {
  for (int64_t id = 0; id < vocab; ++id) tamed[id] = Tame(logits[id]);
  LogSoftmax softmax;
  softmax.largest = isa.maximum(tamed, vocab);
  if (softmax.largest != -kInfinity) {
    softmax.log_sum = std::log(isa.sum_exp(tamed, vocab, softmax.largest, 1.0F));
  }
  return softmax;
}

void WriteTop(const LogSoftmax& softmax, const float* tamed, int64_t vocab, int32_t* ids,
              float* logprobs) {
  int size = 0;
  for (int64_t id = 0; id < vocab; ++id) {
    const float logit = tamed[id];
    if (size == kMaxLogprobs && !(logit > logprobs[size - 1])) continue;
    int at = size < kMaxLogprobs ? size++ : size - 1;
    for (; at > 0 && logit > logprobs[at - 1]; --at) {
      logprobs[at] = logprobs[at - 1];
      ids[at] = ids[at - 1];
    }
    logprobs[at] = logit;
    ids[at] = static_cast<int32_t>(id);
  }
  for (int i = 0; i < size; ++i) logprobs[i] = softmax.Of(logprobs[i]);
  for (int i = size; i < kMaxLogprobs; ++i) {
    ids[i] = -1;
    logprobs[i] = -kInfinity;
  }
}

}  // namespace moed::fast
