// One tensor-core product of a warp: D[16, 8] += A[16, 16] B[16, 8], bfloat16 in, float32 sums
// (mma.sync.m16n8k16, sm_80 and later; PTX ISA, "Matrix Fragments for mma.m16n8k16").
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"

namespace moed::cuda {

// With group = lane / 4 and pair = lane % 4, each register holds two neighbours, the lower index in
// the low half:
//   a[0] = A[group][2 pair, +1]      a[1] = A[group + 8][2 pair, +1]
//   a[2] = A[group][2 pair + 8, +9]  a[3] = A[group + 8][2 pair + 8, +9]
//   b[0] = B[2 pair, +1][group]      b[1] = B[2 pair + 8, +9][group]
//   d[0], d[1] = D[group][2 pair, +1]; d[2], d[3] = D[group + 8][2 pair, +1]
struct FragmentA {
  uint32_t r[4];
};
struct FragmentB {
  uint32_t r[2];
};
struct FragmentD {
  float r[4];
};

// Called by all 32 lanes of a warp.
__device__ __forceinline__ void MultiplyAdd(FragmentD& d, const FragmentA& a, const FragmentB& b) {
#if defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d.r[0]), "+f"(d.r[1]), "+f"(d.r[2]), "+f"(d.r[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
#else
  struct Operands {
    FragmentA a;
    FragmentB b;
  };
  const auto all = cuda_host::Exchange(0xffffffffU, Operands{a, b});
  const auto half = [](uint32_t word, uint32_t odd) {
    return ToFloat(BFloat16{static_cast<uint16_t>(odd ? word >> 16 : word)});
  };
  const uint32_t group = cuda_host::Lane() / 4;
  const uint32_t pair = cuda_host::Lane() % 4;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t row = group + i / 2 * 8;
    const uint32_t column = 2 * pair + i % 2;
    float sum = d.r[i];
    for (uint32_t k = 0; k < 16; ++k) {
      const uint32_t owner = k % 8 / 2;
      const uint32_t left = all.Get(row % 8 * 4 + owner).a.r[row / 8 + k / 8 * 2];
      const uint32_t right = all.Get(column * 4 + owner).b.r[k / 8];
      sum += half(left, k % 2) * half(right, k % 2);
    }
    d.r[i] = sum;
  }
#endif
}

}  // namespace moed::cuda
