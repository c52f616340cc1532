// Four 8 x 8 matrices of 16-bit elements from shared memory into a warp's registers, as the
// fragments of kernels/cuda/mma.cuh have them (PTX ISA, "ldmatrix", sm_75 and later).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cuda/device.cuh"

namespace moed::cuda {

// r[i] of lane l holds two neighbours of matrix i: row l / 4, columns 2 (l % 4) and + 1;
// transposed: rows 2 (l % 4) and + 1 of column l / 4. The lower index lies in the low half.
struct Matrices {
  uint32_t r[4];
};

// Called by all 32 lanes of a warp: lane l brings the address of row l % 8 of matrix l / 8, 16
// bytes on a 16-byte boundary.
template <bool kTransposed>
__device__ __forceinline__ Matrices LoadMatrices(const void* row) {
  Matrices m;
#if defined(__CUDACC__)
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m.r[0]), "=r"(m.r[1]), "=r"(m.r[2]), "=r"(m.r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m.r[0]), "=r"(m.r[1]), "=r"(m.r[2]), "=r"(m.r[3])
                 : "r"(address)
                 : "memory");
  }
#else
  const auto rows = cuda_host::Exchange(0xffffffffU, row);
  const uint32_t lane = cuda_host::Lane();
  for (uint32_t i = 0; i < 4; ++i) {
    const auto element = [&](uint32_t matrix_row, uint32_t column) {
      uint16_t bits = 0;
      const auto* from = static_cast<const unsigned char*>(rows.Get(8 * i + matrix_row));
      std::memcpy(&bits, from + 2 * column, sizeof(bits));
      return static_cast<uint32_t>(bits);
    };
    const uint32_t pair = 2 * (lane % 4);
    const uint32_t line = lane / 4;
    m.r[i] = kTransposed ? element(pair, line) | element(pair + 1, line) << 16
                         : element(line, pair) | element(line, pair + 1) << 16;
  }
#endif
  return m;
}

}  // namespace moed::cuda
