#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/choose_top_k.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
void Route(const RouteArgs& args, Scratch& scratch) {
  if (args.topk_ids.empty()) return;
  WithActType(args.x.dtype(), [&]<typename T>(T) {
    const int64_t hidden = args.x.dim(1);
    const int64_t num_experts = args.weight.dim(0);
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
      ChooseOfRow(args, t, logits);
    }
  });
}

}  // namespace moed::reference
