// The vector types of CUDA, with its sizes and alignments.
#pragma once

#include <cstdint>

// NOLINTBEGIN(readability-identifier-naming)
struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_count = 1, unsigned y_count = 1, unsigned z_count = 1)  // NOLINT
      : x(x_count), y(y_count), z(z_count) {}
  constexpr dim3(uint3 counts) : x(counts.x), y(counts.y), z(counts.z) {}  // NOLINT
};

#define MOED_CUDA_HOST_VECTOR_2(name, element) \
  struct alignas(2 * sizeof(element)) name {   \
    element x, y;                              \
  };                                           \
  constexpr name make_##name(element x, element y) { return {x, y}; }
#define MOED_CUDA_HOST_VECTOR_4(name, element, alignment) \
  struct alignas(alignment) name {                        \
    element x, y, z, w;                                   \
  };                                                      \
  constexpr name make_##name(element x, element y, element z, element w) { return {x, y, z, w}; }

MOED_CUDA_HOST_VECTOR_2(char2, signed char)
MOED_CUDA_HOST_VECTOR_2(uchar2, unsigned char)
MOED_CUDA_HOST_VECTOR_2(short2, short)
MOED_CUDA_HOST_VECTOR_2(ushort2, unsigned short)
MOED_CUDA_HOST_VECTOR_2(int2, int)
MOED_CUDA_HOST_VECTOR_2(uint2, unsigned)
MOED_CUDA_HOST_VECTOR_2(longlong2, long long)
MOED_CUDA_HOST_VECTOR_2(ulonglong2, unsigned long long)
MOED_CUDA_HOST_VECTOR_2(float2, float)
MOED_CUDA_HOST_VECTOR_2(double2, double)
MOED_CUDA_HOST_VECTOR_4(char4, signed char, 4)
MOED_CUDA_HOST_VECTOR_4(uchar4, unsigned char, 4)
MOED_CUDA_HOST_VECTOR_4(short4, short, 8)
MOED_CUDA_HOST_VECTOR_4(ushort4, unsigned short, 8)
MOED_CUDA_HOST_VECTOR_4(int4, int, 16)
MOED_CUDA_HOST_VECTOR_4(uint4, unsigned, 16)
MOED_CUDA_HOST_VECTOR_4(float4, float, 16)

struct float3 {
  float x, y, z;
};
struct int3 {
  int x, y, z;
};
// NOLINTEND(readability-identifier-naming)

#undef MOED_CUDA_HOST_VECTOR_2
#undef MOED_CUDA_HOST_VECTOR_4
