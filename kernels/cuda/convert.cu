// to[i] = from[i] in another float type.
//
// Shapes: ConvertParams. Grid and block: 256 threads, eight neighbours each. Shared memory: none.
// Bound by memory.
#include "kernels/cuda/convert.h"

#include <bit>

#include "kernels/cuda/vector.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;

template <typename T>
__device__ __forceinline__ float Widen(T value) {
  return ToFloat(value);
}

// The host's ToFloat(Float16) is out of line; this one is for devices.
template <>
__device__ __forceinline__ float Widen(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000U) << 16;
  const uint32_t exponent = value.bits >> 10 & 0x1fU;
  const uint32_t fraction = value.bits & 0x3ffU;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000U | fraction << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

template <typename From, typename To, int kWidth>
__global__ void __launch_bounds__(kThreads)
    ConvertKernel(const From* __restrict__ from, To* __restrict__ to, int64_t count) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kEach;
  int64_t i = first;
  for (; i + kWidth <= count && i < first + kEach; i += kWidth) {
    const Vector<From, kWidth> values = LoadVector<kWidth>(from + i);
    Vector<To, kWidth> converted;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) converted.at[j] = FromFloat<To>(Widen(values.at[j]));
    StoreVector<kWidth>(to + i, converted);
  }
  for (; i < count && i < first + kEach; ++i) to[i] = FromFloat<To>(Widen(from[i]));
}

template <typename From, typename To>
LaunchError Launch(const LaunchContext& context, const ConvertParams& params) {
  const auto* from = static_cast<const From*>(params.from);
  To* to = static_cast<To*>(params.to);
  const dim3 grid(static_cast<unsigned>(BlocksFor(params.count, kThreads * kEach)));
  if (Aligned(16, params.from, params.to)) {
    return MOED_LAUNCH(context, (ConvertKernel<From, To, kEach>), grid, dim3(kThreads), 0, from, to,
                       params.count);
  }
  return MOED_LAUNCH(context, (ConvertKernel<From, To, 1>), grid, dim3(kThreads), 0, from, to,
                     params.count);
}

template <typename From>
LaunchError Launch(const LaunchContext& context, const ConvertParams& params) {
  return params.to_dtype == DType::kFloat32 ? Launch<From, float>(context, params)
                                            : Launch<From, BFloat16>(context, params);
}

}  // namespace

LaunchError LaunchConvert(const LaunchContext& context, const ConvertParams& params) {
  if (params.from_dtype == DType::kFloat32) return Launch<float>(context, params);
  if (params.from_dtype == DType::kBFloat16) return Launch<BFloat16>(context, params);
  return Launch<Float16>(context, params);
}

}  // namespace moed::cuda
