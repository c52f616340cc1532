// residual[t] += sum over c of topk_weights[t][c] * contributions[contribution_index[t][c]]: the
// sum first, in the order of the choices.
//
// Shapes: CombineParams. Grid: (row, part of its elements). Block: 128 threads; each takes eight
// neighbours of a row where rows are multiples of sixteen bytes, else one. Shared memory: none.
// Bound by memory: hidden * (8 + top_k * bytes of act) a row.
#include "kernels/cuda/combine.h"

#include "kernels/cuda/vector.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWide = 8;
constexpr int kAhead = 2;  // contributions on their way at a time

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) CombineKernel(CombineParams params) {
  const int64_t at = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kWidth;
  if (at >= params.hidden) return;
  const auto row = static_cast<int64_t>(blockIdx.x);
  const int32_t* __restrict__ index = params.contribution_index + row * params.top_k;
  const float* __restrict__ weights = params.topk_weights + row * params.top_k;
  const T* __restrict__ contributions = static_cast<const T*>(params.contributions) + at;
  float* __restrict__ residual = params.residual + row * params.hidden + at;

  Vector<float, kWidth> before = LoadVector<kWidth>(residual);
  Vector<float, kWidth> sum = {};
  for (int64_t first = 0; first < params.top_k; first += kAhead) {
    int64_t rows[kAhead];
    Vector<T, kWidth> terms[kAhead] = {};
#pragma unroll
    for (int c = 0; c < kAhead; ++c) rows[c] = first + c < params.top_k ? index[first + c] : -1;
#pragma unroll
    for (int c = 0; c < kAhead; ++c) {
      if (rows[c] >= 0) terms[c] = LoadVector<kWidth>(contributions + rows[c] * params.hidden);
    }
#pragma unroll
    for (int c = 0; c < kAhead; ++c) {
      if (rows[c] < 0) continue;
      const float weight = weights[first + c];
#pragma unroll
      for (int j = 0; j < kWidth; ++j) sum.at[j] += weight * ToFloat(terms[c].at[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < kWidth; ++j) before.at[j] += sum.at[j];
  StoreVector<kWidth>(residual, before);
}

template <typename T, int kWidth>
LaunchError Launch(const LaunchContext& context, const CombineParams& params) {
  const dim3 grid(static_cast<unsigned>(params.num_tokens),
                  static_cast<unsigned>(BlocksFor(params.hidden, kThreads * kWidth)));
  return MOED_LAUNCH(context, (CombineKernel<T, kWidth>), grid, dim3(kThreads), 0, params);
}

template <typename T>
LaunchError Launch(const LaunchContext& context, const CombineParams& params) {
  const bool wide =
      params.hidden % kWide == 0 && Aligned(16, params.contributions, params.residual);
  return wide ? Launch<T, kWide>(context, params) : Launch<T, 1>(context, params);
}

}  // namespace

LaunchError LaunchCombine(const LaunchContext& context, const CombineParams& params) {
  return params.act == DType::kFloat32 ? Launch<float>(context, params)
                                       : Launch<BFloat16>(context, params);
}

}  // namespace moed::cuda
