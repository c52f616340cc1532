#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
namespace {

// Picks the largest logits, ties to the lower id, and softmaxes them. A chosen logit is spoilt.
// A NaN counts as -infinity. Where the chosen are all infinite alike the weights are equal.
void ChooseTopK(float* logits, int64_t num_experts, int64_t top_k, int32_t* ids, float* weights) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int64_t e = 0; e < num_experts; ++e) {
    if (std::isnan(logits[e])) logits[e] = -kInfinity;
  }
  for (int64_t c = 0; c < top_k; ++c) {
    int64_t best = -1;
    for (int64_t e = 0; e < num_experts; ++e) {
      if (std::isnan(logits[e])) continue;  // chosen already
      if (best < 0 || logits[e] > logits[best]) best = e;
    }
    ids[c] = static_cast<int32_t>(best);
    weights[c] = logits[best];
    logits[best] = std::numeric_limits<float>::quiet_NaN();
  }
  const float largest = weights[0];
  float sum = 0;
  for (int64_t c = 0; c < top_k; ++c) {
    weights[c] = weights[c] == largest ? 1.0F : std::exp(weights[c] - largest);
    sum += weights[c];
  }
  for (int64_t c = 0; c < top_k; ++c) weights[c] /= sum;
}

}  // namespace

void Route(const RouteArgs& args, Scratch& scratch) {
  if (args.topk_ids.empty()) return;
  WithActType(args.x.dtype(), [&]<typename T>(T) {
    const int64_t hidden = args.x.dim(1);
    const int64_t num_experts = args.weight.dim(0);
    const int64_t top_k = args.topk_ids.dim(1);
    const float* weight = args.weight.data<float>();
    MOED_CHECK(num_experts <= static_cast<int64_t>(scratch.scores.size()),
               "Route: num_experts exceeds the workspace's limits");
    float* logits = scratch.scores.data();
    for (int64_t t = 0; t < args.x.dim(0); ++t) {
      const T* x = args.x.data<T>() + t * hidden;
      for (int64_t e = 0; e < num_experts; ++e) {
        logits[e] = 0;
        for (int64_t i = 0; i < hidden; ++i) logits[e] += ToFloat(x[i]) * weight[e * hidden + i];
      }
      ChooseTopK(logits, num_experts, top_k, args.topk_ids.data<int32_t>() + t * top_k,
                 args.topk_weights.data<float>() + t * top_k);
    }
  });
}

}  // namespace moed::reference
