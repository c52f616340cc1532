#include <cmath>
#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {

void RmsNorm(const RmsNormArgs& args) {
  if (args.out.empty()) return;
  WithActType(args.out.dtype(), [&]<typename T>(T) {
    const float* weight = args.weight.data<float>();
    const bool all_rows = args.row_index.rank() == 0;
    const int32_t* row_index = all_rows ? nullptr : args.row_index.data<int32_t>();
    const int64_t hidden = args.x.dim(1);
    for (int64_t r = 0; r < args.out.dim(0); ++r) {
      const int64_t source = all_rows ? r : row_index[r];
      MOED_CHECK(source >= 0 && source < args.x.dim(0), "RmsNorm: a row index is out of range");
      const float* x = args.x.data<float>() + source * hidden;
      T* out = args.out.data<T>() + r * hidden;
      float sum = 0;
      for (int64_t i = 0; i < hidden; ++i) sum += x[i] * x[i];
      const float scale = 1.0F / std::sqrt(sum / static_cast<float>(hidden) + args.epsilon);
      for (int64_t i = 0; i < hidden; ++i) out[i] = FromFloat<T>(x[i] * scale * weight[i]);
    }
  });
}

}  // namespace moed::reference
