// out[t] = table[token of row t], in float32.
//
// Shapes: EmbedParams. Grid: one block a row. Block: 256 threads. Shared memory: none. Eight
// elements a thread at a time where rows are multiples of sixteen bytes, else one. Bound by memory:
// hidden * (4 + bytes of act) a row.
#include "kernels/cuda/embed.h"

#include "kernels/cuda/vector.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWide = 8;

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) EmbedKernel(EmbedParams params) {
  const auto row = static_cast<int64_t>(blockIdx.x);
  int64_t token = params.input_tokens[row];
  if (token < 0) token = params.last_sampled[-1 - token];
  const T* __restrict__ from = static_cast<const T*>(params.table) + token * params.hidden;
  float* __restrict__ to = params.out + row * params.hidden;
  for (int64_t i = static_cast<int64_t>(threadIdx.x) * kWidth; i < params.hidden;
       i += kThreads * kWidth) {
    const Vector<T, kWidth> values = LoadVector<kWidth>(from + i);
    Vector<float, kWidth> widened;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) widened.at[j] = ToFloat(values.at[j]);
    StoreVector<kWidth>(to + i, widened);
  }
}

template <typename T>
LaunchError Launch(const LaunchContext& context, const EmbedParams& params) {
  const dim3 grid(static_cast<unsigned>(params.num_tokens));
  const bool wide = params.hidden % kWide == 0 && Aligned(16, params.table, params.out);
  if (wide) return MOED_LAUNCH(context, (EmbedKernel<T, kWide>), grid, dim3(kThreads), 0, params);
  return MOED_LAUNCH(context, (EmbedKernel<T, 1>), grid, dim3(kThreads), 0, params);
}

}  // namespace

LaunchError LaunchEmbed(const LaunchContext& context, const EmbedParams& params) {
  return params.act == DType::kFloat32 ? Launch<float>(context, params)
                                       : Launch<BFloat16>(context, params);
}

}  // namespace moed::cuda
