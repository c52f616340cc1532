// What the matrix kernels are told, and the order of K that they share. Plain, for nvcc.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace moed::cuda {

// The order of every sum over K, which depends on K alone and never on the number of rows: K is cut
// into at most kMaxSlices slices of whole kSliceUnits; a slice is summed from zero in ascending
// steps, then the slices' sums are added to zero in their order. So every kernel gives a row the
// same bits, whatever tile it falls into.
inline constexpr int64_t kSliceUnit = 64;
inline constexpr int kMaxSlices = 8;

struct KSlices {
  int count = 1;
  int64_t length = kSliceUnit;  // of all but the last
};

constexpr KSlices SlicesOf(int64_t k) {
  const int64_t units = k == 0 ? 1 : BlocksFor(k, kSliceUnit);
  // Two units each: a shorter slice costs more in its sum than it gains in parallel loads.
  const int64_t wanted = BlocksFor(units, 2) < kMaxSlices ? BlocksFor(units, 2) : kMaxSlices;
  const int64_t units_each = BlocksFor(units, wanted);
  return {static_cast<int>(BlocksFor(units, units_each)), units_each * kSliceUnit};
}

enum class GemmOutput : uint8_t {
  kFloat,       // out float32 = sums
  kAccumulate,  // out float32 += sums
  kAct,         // out act = sums
  kSwiGlu,      // out act = silu(gate) * up, the weight's rows interleaved (kGateGroup)
};

// Interleaved weights alternate 8 rows of gate and the 8 rows of up with the same numbers: then one
// thread of a tensor-core product holds an element of both (kernels/cuda/mma.cuh: rows g and
// g + 8). Padded with rows of zeros to whole groups.
inline constexpr int64_t kGateGroup = 8;
constexpr int64_t InterleavedRows(int64_t ffn) {
  return BlocksFor(ffn, kGateGroup) * 2 * kGateGroup;
}
constexpr int64_t InterleavedRow(int64_t f, bool up) {
  return f / kGateGroup * 2 * kGateGroup + (up ? kGateGroup : 0) + f % kGateGroup;
}

inline constexpr int kMaxGroups = 32;  // experts of one launch

// out[OutRow(i)] = x[XRow(i)] weights[g]^T for every group g and i in
// [group_offsets[g], group_offsets[g + 1]) and in [window_begin, window_end).
struct GemmParams {
  const void* weights[kMaxGroups] = {};  // each [n, k] act
  int num_groups = 1;
  const int32_t* group_offsets = nullptr;  // [num_groups + 1] on the device; null: one group that
                                           // is the window
  int64_t window_begin = 0;
  int64_t window_end = 0;
  const void* x = nullptr;             // [.., k] act
  const int32_t* row_index = nullptr;  // XRow(i) = row_index[i]; null: i - window_begin
  const int32_t* out_index = nullptr;  // OutRow(i) = out_index[i]; null: i - window_begin
  void* out = nullptr;                 // [.., out_columns]
  int64_t n = 0;
  int64_t k = 0;
  int64_t out_columns = 0;  // n; kSwiGlu: ffn
  KSlices slices;           // SlicesOf(k)
  GemmOutput output = GemmOutput::kFloat;
  bool is_bfloat16 = false;  // act
  // Room for the sums of slices that blocks compute apart; may be none.
  float* partials = nullptr;
  int64_t num_partials = 0;
};

constexpr int64_t WindowRows(const GemmParams& params) {
  return params.window_end - params.window_begin;
}

// Tiles of `tile_rows` rows that all groups together may need at most.
constexpr int64_t MaxRowTiles(const GemmParams& params, int64_t tile_rows) {
  const int64_t rows = WindowRows(params);
  if (params.num_groups == 1) return BlocksFor(rows, tile_rows);
  return rows / tile_rows + (rows < params.num_groups ? rows : params.num_groups);
}

// Rows that a group is expected to have, where they fall evenly.
constexpr int64_t RowsPerGroup(const GemmParams& params) {
  return BlocksFor(WindowRows(params), params.num_groups);
}

}  // namespace moed::cuda
