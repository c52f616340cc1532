// Neighbouring elements that move in one instruction, where their address allows it.
#pragma once

#include "kernels/cuda/device.cuh"

namespace moed::cuda {

// Sixteen bytes are the widest access of every supported device.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth < 16 ? sizeof(T) * kWidth : 16) Vector {
  T at[kWidth];
};

template <int kWidth, typename T>
__device__ __forceinline__ Vector<T, kWidth> LoadVector(const T* from) {
  return *reinterpret_cast<const Vector<T, kWidth>*>(from);
}

template <int kWidth, typename T>
__device__ __forceinline__ void StoreVector(T* to, const Vector<T, kWidth>& value) {
  *reinterpret_cast<Vector<T, kWidth>*>(to) = value;
}

// Whether all of these addresses are multiples of `bytes`.
template <typename... Pointers>
bool Aligned(size_t bytes, const Pointers*... addresses) {
  return ((reinterpret_cast<uintptr_t>(addresses) % bytes == 0) && ...);
}

}  // namespace moed::cuda
