// out[i] = x[row_index[i]] for whole rows of bytes.
//
// Shapes: GatherRowsParams. A row is copied by units of 16, 8, 4 or 2 bytes, the largest that
// divides it and all addresses.
//  - Rows of 128 units or more: a block of 256 threads copies a part of one row, so that one long
//    row keeps every multiprocessor busy: as many units as make a few blocks for each of them, at
//    most 1,024. Grid: rows times parts.
//  - Shorter rows: a block of 256 threads copies as many whole rows as it has threads for. Grid:
//    groups of rows.
// Shared memory: none. Bound by memory: twice the rows' bytes.
#include "kernels/cuda/gather_rows.h"

#include <algorithm>

#include "kernels/cuda/vector.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxUnitsOfThread = 4;
constexpr int64_t kLongRow = 128;
constexpr int kBlocksOfMultiprocessor = 8;

// Units alias whatever the rows hold.
struct [[gnu::may_alias]] alignas(16) Unit16 {
  uint32_t words[4];
};
struct [[gnu::may_alias]] alignas(8) Unit8 {
  uint32_t words[2];
};
struct [[gnu::may_alias]] alignas(4) Unit4 {
  uint32_t word;
};
struct [[gnu::may_alias]] alignas(2) Unit2 {
  uint16_t half;
};

template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    GatherLongRowsKernel(const Unit* __restrict__ x, const int32_t* __restrict__ row_index,
                         Unit* __restrict__ out, int64_t units_of_row, unsigned parts_of_row,
                         int units_of_thread) {
  const int64_t row = blockIdx.x / parts_of_row;
  const int64_t part = blockIdx.x % parts_of_row;
  const int64_t first = part * kThreads * units_of_thread + threadIdx.x;
  const Unit* from = x + row_index[row] * units_of_row;
  Unit* to = out + row * units_of_row;
  Unit units[kMaxUnitsOfThread];
#pragma unroll
  for (int i = 0; i < kMaxUnitsOfThread; ++i) {
    const int64_t at = first + i * kThreads;
    if (i < units_of_thread && at < units_of_row) units[i] = from[at];
  }
#pragma unroll
  for (int i = 0; i < kMaxUnitsOfThread; ++i) {
    const int64_t at = first + i * kThreads;
    if (i < units_of_thread && at < units_of_row) to[at] = units[i];
  }
}

template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    GatherShortRowsKernel(const Unit* __restrict__ x, const int32_t* __restrict__ row_index,
                          Unit* __restrict__ out, int64_t num_rows, int units_of_row,
                          int rows_of_block) {
  const int row_of_block = static_cast<int>(threadIdx.x) / units_of_row;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * rows_of_block + row_of_block;
  if (row_of_block >= rows_of_block || row >= num_rows) return;
  const int unit = static_cast<int>(threadIdx.x) % units_of_row;
  out[row * units_of_row + unit] = x[static_cast<int64_t>(row_index[row]) * units_of_row + unit];
}

template <typename Unit>
LaunchError Launch(const LaunchContext& context, const GatherRowsParams& params) {
  const auto* x = static_cast<const Unit*>(params.x);
  auto* out = static_cast<Unit*>(params.out);
  const int64_t units_of_row = params.row_bytes / static_cast<int64_t>(sizeof(Unit));
  if (units_of_row < kLongRow) {
    const int64_t rows_of_block = kThreads / units_of_row;
    const dim3 grid(static_cast<unsigned>(BlocksFor(params.num_rows, rows_of_block)));
    return MOED_LAUNCH(context, GatherShortRowsKernel<Unit>, grid, dim3(kThreads), 0, x,
                       params.row_index, out, params.num_rows, static_cast<int>(units_of_row),
                       static_cast<int>(rows_of_block));
  }
  const int64_t units_for_all =
      BlocksFor(params.num_rows * units_of_row,
                int64_t{context.num_sms} * kBlocksOfMultiprocessor * kThreads);
  const int64_t units_of_thread =
      std::min({units_for_all, BlocksFor(units_of_row, kThreads), int64_t{kMaxUnitsOfThread}});
  const int64_t parts_of_row = BlocksFor(units_of_row, kThreads * units_of_thread);
  const dim3 grid(static_cast<unsigned>(params.num_rows * parts_of_row));
  return MOED_LAUNCH(context, GatherLongRowsKernel<Unit>, grid, dim3(kThreads), 0, x,
                     params.row_index, out, units_of_row, static_cast<unsigned>(parts_of_row),
                     static_cast<int>(units_of_thread));
}

}  // namespace

LaunchError LaunchGatherRows(const LaunchContext& context, const GatherRowsParams& params) {
  const auto fits = [&](int bytes) {
    return params.row_bytes % bytes == 0 &&
           Aligned(static_cast<size_t>(bytes), params.x, params.out);
  };
  if (fits(16)) return Launch<Unit16>(context, params);
  if (fits(8)) return Launch<Unit8>(context, params);
  if (fits(4)) return Launch<Unit4>(context, params);
  return Launch<Unit2>(context, params);
}

}  // namespace moed::cuda
