#include "kernels/cpu/choose_top_k.h"

#include <cmath>
#include <limits>

#include "kernels/core/check.h"

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

void ChooseOfRow(const RouteArgs& args, int64_t row, float* logits) {
  const int64_t top_k = args.topk_ids.dim(1);
  int32_t* ids = args.topk_ids.data<int32_t>() + row * top_k;
  float* weights = args.topk_weights.data<float>() + row * top_k;
  int64_t num_choices = top_k;
  if (args.num_choices.rank() != 0) num_choices = args.num_choices.data<int32_t>()[row];
  MOED_CHECK(num_choices > 0 && num_choices <= top_k, "Route: a row's k is out of range");
  ChooseTopK(logits, args.weight.dim(0), num_choices, ids, weights);
  for (int64_t c = num_choices; c < top_k; ++c) {
    ids[c] = -1;
    weights[c] = 0;
  }
}

}  // namespace moed
