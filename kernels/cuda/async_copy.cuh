// Loads and copies of 16 bytes, with the cache hints and the asynchronous copies of sm_80 (PTX ISA,
// "ld.global.nc" and "cp.async").
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cuda/device.cuh"

// The loop after it is unrolled, so that its arrays stay in registers.
#if defined(__CUDACC__)
#define MOED_UNROLL _Pragma("unroll")
#else
#define MOED_UNROLL
#endif

namespace moed::cuda {

struct alignas(16) Vec16 {
  uint32_t words[4];
};

__device__ __forceinline__ Vec16 LoadVec16(const void* from) {
  return *static_cast<const Vec16*>(from);
}

// Of memory that is read once and not written by this kernel: leaves the first-level cache to
// others, and brings the whole 128-byte line into the second level.
__device__ __forceinline__ Vec16 LoadOnce16(const void* from) {
#if defined(__CUDACC__)
  Vec16 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.words[0]), "=r"(value.words[1]), "=r"(value.words[2]),
                 "=r"(value.words[3])
               : "l"(from));
  return value;
#else
  return LoadVec16(from);
#endif
}

// Starts the copy of 16 bytes into shared memory, or of zeros where not `valid` (`from` is then any
// address of device memory, and is not read). On the CPU it is done at once.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* from, bool valid) {
#if defined(__CUDACC__)
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(bytes)
               : "memory");
#else
  *static_cast<Vec16*>(shared) = valid ? LoadVec16(from) : Vec16{};
#endif
}

// Closes the group of the copies that the thread started since the last group.
__device__ __forceinline__ void CommitCopies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most kPending of the thread's groups are still under way. Other threads see the
// copies after a barrier.
template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

}  // namespace moed::cuda
