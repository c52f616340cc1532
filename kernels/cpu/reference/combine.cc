#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {

void Combine(const CombineArgs& args) {
  if (args.residual.empty()) return;
  WithActType(args.contributions.dtype(), [&]<typename T>(T) {
    const int64_t hidden = args.residual.dim(1);
    const int64_t top_k = args.contribution_index.dim(1);
    const int32_t* index = args.contribution_index.data<int32_t>();
    const float* weights = args.topk_weights.data<float>();
    const T* contributions = args.contributions.data<T>();
    float* residual = args.residual.data<float>();
    for (int64_t t = 0; t < args.residual.dim(0); ++t) {
      for (int64_t i = 0; i < hidden; ++i) {
        float sum = 0;
        for (int64_t c = t * top_k; c < (t + 1) * top_k; ++c) {
          if (index[c] < 0) continue;
          MOED_CHECK(index[c] < args.contributions.dim(0),
                     "Combine: a contribution index is out of range");
          sum += weights[c] * ToFloat(contributions[index[c] * hidden + i]);
        }
        residual[t * hidden + i] += sum;
      }
    }
  });
}

}  // namespace moed::reference
