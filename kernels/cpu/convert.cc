#include "kernels/cpu/convert.h"

#include <cstring>

#include "kernels/core/check.h"
#include "kernels/core/float_types.h"

namespace moed {
namespace {

template <typename T>
void Widen(const T* source, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = ToFloat(source[i]);
}

}  // namespace

void ReadFloats(const ConstTensorView& source, int64_t begin, int64_t count, float* out) {
  switch (source.dtype()) {
    case DType::kFloat32:
      return Widen(source.data<float>() + begin, count, out);
    case DType::kBFloat16:
      return Widen(source.data<BFloat16>() + begin, count, out);
    case DType::kFloat16:
      return Widen(source.data<Float16>() + begin, count, out);
    case DType::kInt32:
    case DType::kInt64:
      break;
  }
  MOED_CHECK(false, "floats are read from an integer tensor");
}

void WriteFloats(const float* values, int64_t begin, int64_t count, const TensorView& target) {
  if (count == 0) return;  // pointers may be null then, which memcpy must not be given
  if (target.dtype() == DType::kFloat32) {
    std::memcpy(target.data<float>() + begin, values, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  BFloat16* out = target.data<BFloat16>() + begin;
  for (int64_t i = 0; i < count; ++i) out[i] = ToBFloat16(values[i]);
}

}  // namespace moed
