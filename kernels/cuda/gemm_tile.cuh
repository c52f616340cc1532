// What the matrix kernels share on the device: which rows a block computes, and how sums are
// stored.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/gemm_params.h"

namespace moed::cuda {

// Rows [first, first + num_rows) of one group; none for a tile past the last.
struct RowTile {
  const void* weight = nullptr;
  int64_t first = 0;
  int num_rows = 0;
};

// The tile-th of the groups' tiles of at most `tile_rows` rows. Only the device knows the offsets,
// so every block walks them: at most kMaxGroups + 1 cached loads.
__device__ __forceinline__ RowTile FindRowTile(const GemmParams& params, int64_t tile,
                                               int tile_rows) {
  for (int group = 0; group < params.num_groups; ++group) {
    int64_t begin = params.window_begin;
    int64_t end = params.window_end;
    if (params.group_offsets != nullptr) {
      const int64_t group_begin = params.group_offsets[group];
      const int64_t group_end = params.group_offsets[group + 1];
      begin = begin < group_begin ? group_begin : begin;
      end = end < group_end ? end : group_end;
    }
    const int64_t num_tiles = end > begin ? (end - begin + tile_rows - 1) / tile_rows : 0;
    if (tile < num_tiles) {
      const int64_t first = begin + tile * tile_rows;
      const int64_t left = end - first;
      return {params.weights[group], first, static_cast<int>(left < tile_rows ? left : tile_rows)};
    }
    tile -= num_tiles;
  }
  return {};
}

template <typename T>
__device__ __forceinline__ const T* RowOfX(const GemmParams& params, int64_t i) {
  const int64_t row = params.row_index != nullptr ? params.row_index[i] : i - params.window_begin;
  return static_cast<const T*>(params.x) + row * params.k;
}

__device__ __forceinline__ int64_t RowOfOut(const GemmParams& params, int64_t i) {
  return params.out_index != nullptr ? params.out_index[i] : i - params.window_begin;
}

// silu(gate) * up (SwiGLU, Shazeer 2020). Spelt out, for the compiler to fuse nothing here in one
// kernel and not in another.
__device__ __forceinline__ float SwiGlu(float gate, float up) {
  return __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0F, expf(-gate))), up);
}

template <typename T>
__device__ __forceinline__ void StoreSum(const GemmParams& params, int64_t out_row, int64_t column,
                                         float sum) {
  const int64_t at = out_row * params.out_columns + column;
  if (params.output == GemmOutput::kAct) {
    static_cast<T*>(params.out)[at] = FromFloat<T>(sum);
  } else {
    float& element = static_cast<float*>(params.out)[at];
    element = params.output == GemmOutput::kAccumulate ? element + sum : sum;
  }
}

template <typename T>
__device__ __forceinline__ void StoreSwiGlu(const GemmParams& params, int64_t out_row,
                                            int64_t column, float gate, float up) {
  static_cast<T*>(params.out)[out_row * params.out_columns + column] =
      FromFloat<T>(SwiGlu(gate, up));
}

}  // namespace moed::cuda
