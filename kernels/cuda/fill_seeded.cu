// out[i] = SeededElement(key, i): the bits that the CPU makes.
//
// Shapes: FillSeededParams. Grid and block: 256 threads, eight neighbours each. Shared memory:
// none. About forty integer instructions an element, so some times the time of the store; 47
// billion elements take a fraction of a second.
#include "kernels/cuda/fill_seeded.h"

#include "kernels/core/seeded_values.h"
#include "kernels/cuda/vector.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    FillSeededKernel(T* __restrict__ out, int64_t count, uint64_t key) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kEach;
  int64_t i = first;
  for (; i + kWidth <= count && i < first + kEach; i += kWidth) {
    Vector<T, kWidth> values;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) values.at[j] = FromFloat<T>(SeededElement(key, i + j));
    StoreVector<kWidth>(out + i, values);
  }
  for (; i < count && i < first + kEach; ++i) out[i] = FromFloat<T>(SeededElement(key, i));
}

template <typename T>
LaunchError Launch(const LaunchContext& context, const FillSeededParams& params) {
  T* out = static_cast<T*>(params.out);
  const dim3 grid(static_cast<unsigned>(BlocksFor(params.count, kThreads * kEach)));
  if (Aligned(16, params.out)) {
    return MOED_LAUNCH(context, (FillSeededKernel<T, kEach>), grid, dim3(kThreads), 0, out,
                       params.count, params.key);
  }
  return MOED_LAUNCH(context, (FillSeededKernel<T, 1>), grid, dim3(kThreads), 0, out, params.count,
                     params.key);
}

}  // namespace

LaunchError LaunchFillSeeded(const LaunchContext& context, const FillSeededParams& params) {
  return params.dtype == DType::kFloat32 ? Launch<float>(context, params)
                                         : Launch<BFloat16>(context, params);
}

}  // namespace moed::cuda
