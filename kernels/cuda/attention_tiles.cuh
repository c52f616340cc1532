// Tiles of keys and values on their way from the paged cache into shared memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/attention_rows.cuh"

namespace moed::cuda {

// The tiles [first_tile, end_tile) of one group of heads, of which positions outside `range` are
// zeros. kStages tiles are in shared memory: one in use, the others under way. The threads of a
// block of kThreads call all functions together.
template <typename T, int kDim, int kPitch, int kStages, int kThreads>
class TileStream {
 public:
  static constexpr int kTileElements = kTileTokens * kPitch;
  static constexpr int64_t kSharedBytes =
      kStages * (2 * kTileElements * sizeof(T) + kTileTokens * sizeof(int));

  __device__ TileStream(const PagedAttentionParams& params, unsigned char* shared)
      : params_(params),
        tiles_(reinterpret_cast<T*>(shared)),
        cache_rows_(reinterpret_cast<int*>(tiles_ + 2 * kStages * kTileElements)) {
    const int64_t row_bytes = params.head_dim * static_cast<int64_t>(sizeof(T));
    in_units_ = row_bytes % 16 == 0 && reinterpret_cast<uintptr_t>(params.k_cache) % 16 == 0 &&
                reinterpret_cast<uintptr_t>(params.v_cache) % 16 == 0;
    if (params.head_dim == kDim) return;
    // What is past head_dim is never written again.
    for (int i = Thread(); i < 2 * kStages * kTileElements; i += kThreads) tiles_[i] = T{};
  }

  __device__ static void Barrier() {
    if constexpr (kThreads == kWarpSize) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }

  __device__ void Start(int chunk_index, int kv_head, PositionRange range, int first_tile,
                        int end_tile) {
    table_ = params_.block_tables + static_cast<int64_t>(chunk_index) * params_.max_blocks;
    kv_head_ = kv_head;
    range_ = range;
    end_tile_ = end_tile;
    Barrier();  // the last tiles of the work before have been used
    for (int stage = 0; stage < kStages; ++stage) {
      PutCacheRow(first_tile + stage, CacheRowOf(first_tile + stage));
    }
    Barrier();
    for (int stage = 0; stage < kStages - 1; ++stage) Fetch(first_tile + stage);
  }

  // Waits for `tile`, starts the one kStages - 1 ahead. Tiles are taken one after another.
  __device__ void Take(int tile) {
    WaitForCopies<kStages - 2>();
    Barrier();
    Fetch(tile + kStages - 1);
    next_cache_row_ = CacheRowOf(tile + kStages);
  }
  __device__ const T* Keys(int tile) const { return Place(tile); }
  __device__ const T* Values(int tile) const { return Place(tile) + kTileElements; }
  // When the tile has been used by this thread. The block tables are read a tile early, for their
  // latency to pass meanwhile.
  __device__ void Release(int tile) { PutCacheRow(tile + kStages, next_cache_row_); }

 private:
  __device__ static int Thread() { return static_cast<int>(threadIdx.x); }
  __device__ T* Place(int tile) const { return tiles_ + tile % kStages * 2 * kTileElements; }

  // Of the thread's position in the tile; -1: zeros.
  __device__ int CacheRowOf(int tile) const {
    const int position = tile * kTileTokens + Thread();
    if (Thread() >= kTileTokens || tile >= end_tile_ || position < range_.begin ||
        position >= range_.end) {
      return -1;
    }
    const int block = table_[position / params_.block_size];
    return (block * params_.num_kv_heads + kv_head_) * params_.block_size +
           position % params_.block_size;
  }

  __device__ void PutCacheRow(int tile, int cache_row) {
    if (Thread() < kTileTokens) cache_rows_[tile % kStages * kTileTokens + Thread()] = cache_row;
  }

  __device__ void Fetch(int tile) {
    if (tile < end_tile_) {
      const int* cache_rows = cache_rows_ + tile % kStages * kTileTokens;
      if (in_units_) {
        FetchUnits(Place(tile), cache_rows);
      } else {
        FetchElements(Place(tile), cache_rows);
      }
    }
    CommitCopies();
  }

  __device__ void FetchUnits(T* to, const int* cache_rows) {
    constexpr int kUnit = 16 / static_cast<int>(sizeof(T));
    constexpr int kUnits = kDim / kUnit;  // of a row
    if constexpr (kThreads % kUnits == 0) {
      // A thread's unit stays the same, and its rows are at fixed distances: no branch from copy to
      // copy, and the cache rows of several are read ahead of them.
      constexpr int kRowsAtOnce = kThreads / kUnits;
      constexpr int kCopies = (kTileTokens + kRowsAtOnce - 1) / kRowsAtOnce;
      constexpr int kBatch = kCopies < 4 ? kCopies : 4;
      static_assert(kCopies % kBatch == 0);
      const int d = Thread() % kUnits * kUnit;
      const int first_row = Thread() / kUnits;
      if (d >= params_.head_dim || first_row >= kTileTokens) return;
      T* const place = to + first_row * kPitch + d;
#if defined(__CUDACC__)
#pragma unroll 1
#endif
      for (int c = 0; c < kCopies; c += kBatch) {
        int rows[kBatch];
        MOED_UNROLL
        for (int i = 0; i < kBatch; ++i) rows[i] = cache_rows[first_row + (c + i) * kRowsAtOnce];
        MOED_UNROLL
        for (int i = 0; i < kBatch; ++i) {
          CopyUnit(place + (c + i) * kRowsAtOnce * kPitch, rows[i], d);
        }
      }
    } else {
      for (int i = Thread(); i < kTileTokens * kUnits; i += kThreads) {
        const int row = i / kUnits;
        const int d = i % kUnits * kUnit;
        if (d < params_.head_dim) CopyUnit(to + row * kPitch + d, cache_rows[row], d);
      }
    }
  }

  // Of a key, and of the value beside it.
  __device__ __forceinline__ void CopyUnit(T* to, int cache_row, int d) {
    const bool valid = cache_row >= 0;
    const int64_t from = Element(valid ? cache_row : 0, d);
    CopyAsync16(to, KeyCache() + from, valid);
    CopyAsync16(to + kTileElements, ValueCache() + from, valid);
  }

  __device__ void FetchElements(T* to, const int* cache_rows) {
    for (int i = Thread(); i < kTileTokens * kDim; i += kThreads) {
      const int row = i / kDim;
      const int d = i % kDim;
      if (d >= params_.head_dim) continue;
      const int cache_row = cache_rows[row];
      const int64_t from = cache_row < 0 ? 0 : Element(cache_row, d);
      to[row * kPitch + d] = cache_row < 0 ? T{} : KeyCache()[from];
      to[kTileElements + row * kPitch + d] = cache_row < 0 ? T{} : ValueCache()[from];
    }
  }

  __device__ int64_t Element(int cache_row, int d) const {
    return static_cast<int64_t>(cache_row) * params_.head_dim + d;
  }
  __device__ const T* KeyCache() const { return static_cast<const T*>(params_.k_cache); }
  __device__ const T* ValueCache() const { return static_cast<const T*>(params_.v_cache); }

  const PagedAttentionParams& params_;
  T* const tiles_;         // [kStages, 2, kTileTokens, kPitch]
  int* const cache_rows_;  // [kStages, kTileTokens]
  bool in_units_ = false;
  const int32_t* table_ = nullptr;
  int kv_head_ = 0;
  PositionRange range_;
  int end_tile_ = 0;
  int next_cache_row_ = -1;
};

}  // namespace moed::cuda
