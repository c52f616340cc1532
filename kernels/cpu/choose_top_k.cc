#include "kernels/cpu/choose_top_k.h"

#include <cmath>
#include <limits>

namespace moed {

void ChooseTopK(float* logits, int64_t num_experts, int64_t top_k, int32_t* ids, float* weights) {
  constexpr float kChosen = std::numeric_limits<float>::quiet_NaN();
  for (int64_t e = 0; e < num_experts; ++e) {
    if (std::isnan(logits[e])) logits[e] = -std::numeric_limits<float>::infinity();
  }
  for (int64_t c = 0; c < top_k; ++c) {
    int64_t best = -1;
    for (int64_t e = 0; e < num_experts; ++e) {
      if (std::isnan(logits[e])) continue;
      if (best < 0 || logits[e] > logits[best]) best = e;
    }
    ids[c] = static_cast<int32_t>(best);
    weights[c] = logits[best];
    logits[best] = kChosen;
  }
  const float largest = weights[0];
  float sum = 0;
  for (int64_t c = 0; c < top_k; ++c) {
    weights[c] = weights[c] == largest ? 1.0F : std::exp(weights[c] - largest);
    sum += weights[c];
  }
  for (int64_t c = 0; c < top_k; ++c) weights[c] /= sum;
}

}  // namespace moed
