// out[r] = x / sqrt(mean(x^2) + epsilon) * weight of row row_index[r] (Zhang and Sennrich 2019,
// equation 4).
//
// Shapes: RmsNormParams. Grid: one block a row. Block: 256 threads. Shared memory: 8 floats. Four
// elements a thread at a time where rows are multiples of sixteen bytes, else one. The first 4,096
// elements of a row (of whole vectors) stay in registers between the two passes, with their
// weights, which are on their way while the sum is taken; what is left is read twice. Bound by
// memory: hidden * (4 + bytes of act) a row.
#include "kernels/cuda/rms_norm.h"

#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWide = 4;
constexpr int kKept = 4;  // vectors of a thread

template <int kWidth>
__device__ __forceinline__ float AddSquares(const Vector<float, kWidth>& values, float sum) {
#pragma unroll
  for (int j = 0; j < kWidth; ++j) sum += values.at[j] * values.at[j];
  return sum;
}

template <typename T, int kWidth>
__device__ __forceinline__ void StoreScaled(const Vector<float, kWidth>& values, float scale,
                                            const Vector<float, kWidth>& weights, T* to) {
  Vector<T, kWidth> scaled;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    scaled.at[j] = FromFloat<T>(values.at[j] * scale * weights.at[j]);
  }
  StoreVector<kWidth>(to, scaled);
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) RmsNormKernel(RmsNormParams params) {
  __shared__ float scratch[kThreads / kWarpSize];
  const auto row = static_cast<int64_t>(blockIdx.x);
  const int64_t source = params.row_index == nullptr ? row : params.row_index[row];
  const float* __restrict__ x = params.x + source * params.hidden;
  const float* __restrict__ weight = params.weight;
  T* __restrict__ out = static_cast<T*>(params.out) + row * params.hidden;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kWidth;
  constexpr int64_t kStep = static_cast<int64_t>(kThreads) * kWidth;

  Vector<float, kWidth> values[kKept];
  Vector<float, kWidth> weights[kKept];
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    if (first + k * kStep < params.hidden) {
      values[k] = LoadVector<kWidth>(x + first + k * kStep);
    }
  }
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    if (first + k * kStep < params.hidden) {
      weights[k] = LoadVector<kWidth>(weight + first + k * kStep);
    }
  }
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    if (first + k * kStep < params.hidden) sum = AddSquares<kWidth>(values[k], sum);
  }
  for (int64_t i = first + kKept * kStep; i < params.hidden; i += kStep) {
    sum = AddSquares<kWidth>(LoadVector<kWidth>(x + i), sum);
  }
  sum = BlockSum<kThreads>(sum, scratch);
  const float scale = 1.0F / sqrtf(sum / static_cast<float>(params.hidden) + params.epsilon);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    if (first + k * kStep < params.hidden) {
      StoreScaled<T, kWidth>(values[k], scale, weights[k], out + first + k * kStep);
    }
  }
  for (int64_t i = first + kKept * kStep; i < params.hidden; i += kStep) {
    StoreScaled<T, kWidth>(LoadVector<kWidth>(x + i), scale, LoadVector<kWidth>(weight + i),
                           out + i);
  }
}

template <typename T>
LaunchError Launch(const LaunchContext& context, const RmsNormParams& params) {
  const dim3 grid(static_cast<unsigned>(params.num_rows));
  const bool wide = params.hidden % kWide == 0 && Aligned(16, params.x, params.weight) &&
                    Aligned(kWide * sizeof(T), params.out);
  if (wide) return MOED_LAUNCH(context, (RmsNormKernel<T, kWide>), grid, dim3(kThreads), 0, params);
  return MOED_LAUNCH(context, (RmsNormKernel<T, 1>), grid, dim3(kThreads), 0, params);
}

}  // namespace

LaunchError LaunchRmsNorm(const LaunchContext& context, const RmsNormParams& params) {
  return params.act == DType::kFloat32 ? Launch<float>(context, params)
                                       : Launch<BFloat16>(context, params);
}

}  // namespace moed::cuda
