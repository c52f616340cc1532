// Converts and places the rows of a weight; runs once per weight, at start.
//
//   grid  (rows, pieces of 256 elements), block 256; no shared memory
#include "kernels/cuda/pack_rows.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/gemm_params.h"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float Widen(float value) { return value; }
__device__ __forceinline__ float Widen(BFloat16 value) { return ToFloat(value); }
// IEEE 754 binary16, exact.
__device__ __forceinline__ float Widen(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000U) << 16;
  const uint32_t exponent = value.bits >> 10 & 0x1fU;
  const uint32_t fraction = value.bits & 0x3ffU;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide_exponent << 23 | fraction << 13);
}

template <typename From, typename To>
__global__ void __launch_bounds__(kThreads) PackRows(PackRowsParams params) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= params.width) return;
  const int64_t row = params.first_row + blockIdx.x;
  const int64_t target = params.place == PackedPlace::kPlain
                             ? row
                             : InterleavedRow(row, params.place == PackedPlace::kUp);
  const From value = static_cast<const From*>(params.from)[blockIdx.x * params.width + column];
  static_cast<To*>(params.to)[target * params.width + column] = FromFloat<To>(Widen(value));
}

template <typename From, typename To>
LaunchError Launch(const LaunchContext& context, const PackRowsParams& params) {
  const dim3 grid(static_cast<unsigned>(params.num_rows),
                  static_cast<unsigned>(BlocksFor(params.width, kThreads)));
  return MOED_LAUNCH(context, (PackRows<From, To>), grid, dim3(kThreads), 0, params);
}

template <typename From>
LaunchError LaunchFrom(const LaunchContext& context, const PackRowsParams& params) {
  return params.is_bfloat16 ? Launch<From, BFloat16>(context, params)
                            : Launch<From, float>(context, params);
}

}  // namespace

LaunchError LaunchPackRows(const LaunchContext& context, const PackRowsParams& params) {
  if (params.from_dtype == DType::kFloat32) return LaunchFrom<float>(context, params);
  if (params.from_dtype == DType::kBFloat16) return LaunchFrom<BFloat16>(context, params);
  return LaunchFrom<Float16>(context, params);
}

}  // namespace moed::cuda
