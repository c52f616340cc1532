#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
namespace {

template <typename T, typename Out>
void Multiply(const LinearArgs& args, const ConstTensorView& weight) {
  const int64_t in_features = weight.dim(1);
  const int64_t out_features = weight.dim(0);
  const T* x = args.x.data<T>();
  const T* w = weight.data<T>();
  Out* out = args.out.data<Out>();
  for (int64_t r = 0; r < args.x.dim(0); ++r) {
    for (int64_t n = 0; n < out_features; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < in_features; ++k) {
        sum += ToFloat(x[r * in_features + k]) * ToFloat(w[n * in_features + k]);
      }
      Out& element = out[r * out_features + n];
      element = FromFloat<Out>(args.accumulate ? ToFloat(element) + sum : sum);
    }
  }
}

}  // namespace

void Linear(const LinearArgs& args) {
  const auto* matrix = dynamic_cast<const Matrix*>(args.weight);
  MOED_CHECK(matrix != nullptr, "Linear: the weight was packed by another kind of backend");
  if (args.out.empty()) return;
  WithActType(args.x.dtype(), [&]<typename T>(T) {
    if (args.out.dtype() == DType::kFloat32) {
      Multiply<T, float>(args, matrix->view());
    } else {
      Multiply<T, BFloat16>(args, matrix->view());
    }
  });
}

}  // namespace moed::reference
