#include "kernels/cpu/fill_seeded.h"

#include "kernels/core/float_types.h"
#include "kernels/core/seeded_values.h"

namespace moed {
namespace {

template <typename T>
void Fill(T* data, uint64_t key, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) data[i] = FromFloat<T>(SeededElement(key, i));
}

}  // namespace

void FillSeeded(const FillSeededArgs& args, int64_t begin, int64_t end) {
  if (args.out.dtype() == DType::kFloat32) {
    Fill(args.out.data<float>(), args.key, begin, end);
  } else {
    Fill(args.out.data<BFloat16>(), args.key, begin, end);
  }
}

}  // namespace moed
