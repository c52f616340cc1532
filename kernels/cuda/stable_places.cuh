// Stable places of keys in the order of a sequence: what a counting sort, and a capacity, are made
// of. For one block, whose warps each own a stretch of the sequence and walk it twice:
//  1. every warp counts its keys from zero (PlaceOfKey) in its own row of `counts`;
//  2. StartWarps turns the rows into how many of each key the warps before have;
//  3. walking again, PlaceOfKey gives each key how many of its like come before it in the sequence.
// Integers only: the result does not depend on which warp runs first.
#pragma once

#include "kernels/cuda/warp.cuh"

namespace moed::cuda {

// Keys of a thread that are on their way from memory at a time.
inline constexpr int kKeysAhead = 4;
// Keys counted at a time; more take further passes over the sequence. 32 warps then need 32 KiB.
inline constexpr int kMaxKeys = 256;
inline constexpr int kMaxPlaceThreads = 1024;

// What of a sequence of `size` the calling thread's warp owns.
struct Stretch {
  int64_t begin;
  int64_t end;
};

__device__ __forceinline__ Stretch StretchOfWarp(int64_t size) {
  const int64_t num_warps = blockDim.x / kWarpSize;
  const int64_t warp = threadIdx.x / kWarpSize;
  const int64_t steps = (size + num_warps * kWarpSize - 1) / (num_warps * kWarpSize);
  const int64_t begin = warp * steps * kWarpSize;
  const int64_t end = begin + steps * kWarpSize;
  return {begin < size ? begin : size, end < size ? end : size};
}

// By all lanes of a warp, lane by lane in the order of the sequence, with the warp's own counts
// [num_keys] in shared memory: how many of this key were counted before, which is then one more.
// A negative key is none; what it gets means nothing.
__device__ __forceinline__ int PlaceOfKey(int key, int* counts) {
  const unsigned same = __match_any_sync(kAllLanes, key);
  const unsigned earlier = same & ((1U << threadIdx.x % kWarpSize) - 1U);
  const int before = key >= 0 ? counts[key] : 0;
  __syncwarp();
  if (key >= 0 && earlier == 0) counts[key] = before + __popc(same);
  __syncwarp();
  return before + __popc(earlier);
}

// By all threads of the block, between two of its barriers: counts [num_warps][num_keys] become the
// sums over the warps before, totals [num_keys] those over all.
__device__ __forceinline__ void StartWarps(int* counts, int num_keys, int* totals) {
  const int num_warps = static_cast<int>(blockDim.x) / kWarpSize;
  for (int key = static_cast<int>(threadIdx.x); key < num_keys;
       key += static_cast<int>(blockDim.x)) {
    int sum = 0;
    for (int warp = 0; warp < num_warps; ++warp) {
      const int count = counts[warp * num_keys + key];
      counts[warp * num_keys + key] = sum;
      sum += count;
    }
    totals[key] = sum;
  }
}

// By all lanes of one warp: totals [num_keys] become `base` plus the sums of the keys before. Each
// lane gets the sum of all, with `base`.
__device__ __forceinline__ int StartKeys(int* totals, int num_keys, int base) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int first = 0; first < num_keys; first += kWarpSize) {
    const int key = first + lane;
    const int own = key < num_keys ? totals[key] : 0;
    int sum = own;
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const int left = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(distance));
      if (lane >= distance) sum += left;
    }
    if (key < num_keys) totals[key] = base + sum - own;
    base += __shfl_sync(kAllLanes, sum, kWarpSize - 1);
  }
  return base;
}

// Threads of the one block for a sequence of `size`.
constexpr unsigned PlaceThreads(int64_t size) {
  const int64_t rounded = (size + kWarpSize - 1) / kWarpSize * kWarpSize;
  if (rounded > kMaxPlaceThreads) return kMaxPlaceThreads;
  return rounded < kWarpSize ? kWarpSize : static_cast<unsigned>(rounded);
}

}  // namespace moed::cuda
