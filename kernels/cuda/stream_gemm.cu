// Weight-streaming matrix product for few rows, in which the weights' bytes are the time.
//
//   weight [n, k], x [rows, k], both act; sums in float32
//   grid   (row tiles of 8 C rows, weight tiles of 16 R weight rows): blocks of one weight tile are
//          neighbours, so that a second row tile finds the weights in the second-level cache
//   block  one warp for each slice of K (gemm_params.h), at most 8
//   shared [slices * kParts, 8 C, 16 R] float32, the slices' sums: at most 32 KiB
//
// Each lane loads 16 bytes of weight rows g and g + 8 (g = lane / 4), its quad 64 consecutive bytes
// of each; the loads of the next batch are in flight while this one is multiplied: 4 KiB a warp.
// With two blocks of 8 warps on an SM that is 64 KiB, above the 23 KiB that 4.3 TB/s over 132 SMs
// need at 700 ns. What x costs is first-level cache: 8 C / (16 R) bytes for each byte of weight.
// In bfloat16 the four lanes' 8 elements each are fed to two tensor-core products as they lie, the
// same permutation of K in both operands. In float32 every lane sums the elements it loads, four
// sums to a slice (kParts), added in the order of the lanes.
//
// Expected, not measured: 85 % of the memory's bandwidth in bfloat16 up to 16 rows where n >= 4096
// (two blocks an SM, 108 to 124 registers a thread); less at 32 rows (162 registers, one block an
// SM). In float32 from 9 rows on the loads of x, not memory, are the limit.
//
// Rows past the last of a tile repeat the last one, and are not stored: a product's columns do not
// meet. Unaligned rows (k * sizeof(T) no multiple of 16) are loaded element by element, and
// multiplied in the same order.
#include "kernels/cuda/stream_gemm.h"

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/gemm_tile.cuh"
#include "kernels/cuda/mma.cuh"

namespace moed::cuda {
namespace {

__device__ __forceinline__ float MultiplyAddFloat(float a, float b, float sum) {
#if defined(__CUDACC__)
  return __fmaf_rn(a, b, sum);
#else
  return a * b + sum;  // never contracted: the emulation is built without FMA
#endif
}

// Up to 16 bytes of a row from element `at` on, zeros from `end` on.
template <typename T, bool kAligned, bool kOnce>
__device__ __forceinline__ Vec16 LoadElements(const T* row, int64_t at, int64_t end) {
  constexpr int kElements = 16 / sizeof(T);
  if constexpr (kAligned) {
    if (at >= end) return Vec16{};
    return kOnce ? LoadOnce16(row + at) : LoadVec16(row + at);
  } else {
    union {
      Vec16 vector;
      T elements[kElements];
    } loaded = {Vec16{}};
    MOED_UNROLL
    for (int i = 0; i < kElements; ++i) {
      if (at + i < end) loaded.elements[i] = row[at + i];
    }
    return loaded.vector;
  }
}

// The sums of one slice for 16 R weight rows and 8 C rows of x.
template <typename T, int R, int C, bool kAligned>
struct WarpSums;

template <int R, int C, bool kAligned>
struct WarpSums<BFloat16, R, C, kAligned> {
  static constexpr int kParts = 1;
  static constexpr int kStep = 32;      // of K, a pass of a warp
  static constexpr int kBatch = 4 / R;  // passes loaded together
  static constexpr int kXRows = C;      // rows of x that a lane loads

  FragmentD sums[R][C] = {};

  static __device__ int XRow(int i, int lane) { return i * 8 + lane / 4; }

  __device__ void Add(const Vec16 (&weight)[R][2], const Vec16 (&x)[kXRows]) {
    MOED_UNROLL
    for (int half = 0; half < 2; ++half) {
      MOED_UNROLL
      for (int r = 0; r < R; ++r) {
        const FragmentA a = {weight[r][0].words[2 * half], weight[r][1].words[2 * half],
                             weight[r][0].words[2 * half + 1], weight[r][1].words[2 * half + 1]};
        MOED_UNROLL
        for (int c = 0; c < C; ++c) {
          const FragmentB b = {x[c].words[2 * half], x[c].words[2 * half + 1]};
          MultiplyAdd(sums[r][c], a, b);
        }
      }
    }
  }

  // to: [8 C][16 R]
  __device__ void Store(float* to, int lane) const {
    MOED_UNROLL
    for (int r = 0; r < R; ++r) {
      MOED_UNROLL
      for (int c = 0; c < C; ++c) {
        MOED_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int column = c * 8 + lane % 4 * 2 + i % 2;
          const int row = r * 16 + lane / 4 + i / 2 * 8;
          to[column * (16 * R) + row] = sums[r][c].r[i];
        }
      }
    }
  }
};

template <int R, int C, bool kAligned>
struct WarpSums<float, R, C, kAligned> {
  static constexpr int kParts = 4;
  static constexpr int kStep = 16;
  static constexpr int kBatch = 4 / R;
  static constexpr int kXRows = 8 * C;

  float sums[R][2][kXRows] = {};

  static __device__ int XRow(int i, int /*lane*/) { return i; }

  static __device__ float Element(const Vec16& vector, int i) {
    return std::bit_cast<float>(vector.words[i]);
  }

  __device__ void Add(const Vec16 (&weight)[R][2], const Vec16 (&x)[kXRows]) {
    MOED_UNROLL
    for (int c = 0; c < kXRows; ++c) {
      MOED_UNROLL
      for (int r = 0; r < R; ++r) {
        MOED_UNROLL
        for (int i = 0; i < 4; ++i) {
          sums[r][0][c] =
              MultiplyAddFloat(Element(weight[r][0], i), Element(x[c], i), sums[r][0][c]);
          sums[r][1][c] =
              MultiplyAddFloat(Element(weight[r][1], i), Element(x[c], i), sums[r][1][c]);
        }
      }
    }
  }

  // to: [4][8 C][16 R]
  __device__ void Store(float* to, int lane) const {
    float* part = to + lane % 4 * (kXRows * 16 * R);
    MOED_UNROLL
    for (int c = 0; c < kXRows; ++c) {
      MOED_UNROLL
      for (int r = 0; r < R; ++r) {
        part[c * (16 * R) + r * 16 + lane / 4] = sums[r][0][c];
        part[c * (16 * R) + r * 16 + lane / 4 + 8] = sums[r][1][c];
      }
    }
  }
};

template <typename T, int R, int C, bool kAligned>
__device__ __forceinline__ void SumSlice(const GemmParams& params, const RowTile& tile, int64_t n0,
                                         WarpSums<T, R, C, kAligned>& sums) {
  using Sums = WarpSums<T, R, C, kAligned>;
  constexpr int kBatch = Sums::kBatch;
  constexpr int64_t kStep = Sums::kStep;
  constexpr int kElements = 16 / sizeof(T);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int slice = static_cast<int>(threadIdx.x) / 32;
  const int64_t begin = slice * params.slices.length;
  const int64_t slice_end = begin + params.slices.length;
  const int64_t end = slice_end < params.k ? slice_end : params.k;
  const int64_t own = lane % 4 * kElements;  // of the lane, in a step

  const T* weight_rows[R][2];
  MOED_UNROLL
  for (int i = 0; i < 2 * R; ++i) {
    const int64_t row = n0 + i * 8 + lane / 4;
    weight_rows[i / 2][i % 2] =
        static_cast<const T*>(tile.weight) + (row < params.n ? row : params.n - 1) * params.k;
  }
  const T* x_rows[Sums::kXRows];
  MOED_UNROLL
  for (int i = 0; i < Sums::kXRows; ++i) {
    const int row = Sums::XRow(i, lane);
    x_rows[i] = RowOfX<T>(params, tile.first + (row < tile.num_rows ? row : tile.num_rows - 1));
  }

  Vec16 next[kBatch][R][2];
  const auto load_weights = [&](int64_t k) {
    MOED_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      MOED_UNROLL
      for (int i = 0; i < 2 * R; ++i) {
        next[b][i / 2][i % 2] =
            LoadElements<T, kAligned, true>(weight_rows[i / 2][i % 2], k + b * kStep + own, end);
      }
    }
  };
  load_weights(begin);
  for (int64_t k = begin; k < end; k += kBatch * kStep) {
    Vec16 weights[kBatch][R][2];
    MOED_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      MOED_UNROLL
      for (int i = 0; i < 2 * R; ++i) weights[b][i / 2][i % 2] = next[b][i / 2][i % 2];
    }
    if (k + kBatch * kStep < end) load_weights(k + kBatch * kStep);
    MOED_UNROLL
    for (int b = 0; b < kBatch; ++b) {
      const int64_t at = k + b * kStep;
      if (at >= end) break;
      Vec16 x[Sums::kXRows];
      MOED_UNROLL
      for (int i = 0; i < Sums::kXRows; ++i) {
        x[i] = LoadElements<T, kAligned, false>(x_rows[i], at + own, end);
      }
      sums.Add(weights[b], x);
    }
  }
}

template <typename T, int R, int C, bool kAligned>
__global__ void __launch_bounds__(32 * kMaxSlices) StreamGemm(GemmParams params) {
  using Sums = WarpSums<T, R, C, kAligned>;
  constexpr int kWeightRows = 16 * R;
  constexpr int kRows = 8 * C;
  MOED_DYNAMIC_SHARED(float, parts);  // [num_parts][kRows][kWeightRows]
  const RowTile tile = FindRowTile(params, blockIdx.x, kRows);
  if (tile.num_rows == 0) return;
  const int64_t n0 = static_cast<int64_t>(blockIdx.y) * kWeightRows;
  {
    Sums sums;
    SumSlice<T, R, C, kAligned>(params, tile, n0, sums);
    const int slice = static_cast<int>(threadIdx.x) / 32;
    sums.Store(parts + slice * (Sums::kParts * kRows * kWeightRows),
               static_cast<int>(threadIdx.x) % 32);
  }
  __syncthreads();

  const int num_parts = params.slices.count * Sums::kParts;
  const auto total = [&](int row, int weight_row) {
    float sum = 0;
    for (int part = 0; part < num_parts; ++part) {
      sum += parts[(part * kRows + row) * kWeightRows + weight_row];
    }
    return sum;
  };
  const bool gated = params.output == GemmOutput::kSwiGlu;
  const int columns = gated ? kWeightRows / 2 : kWeightRows;
  const int64_t first_column = gated ? n0 / 2 : n0;
  for (int i = static_cast<int>(threadIdx.x); i < tile.num_rows * columns;
       i += static_cast<int>(blockDim.x)) {
    const int row = i / columns;
    const int column = i % columns;
    if (first_column + column >= params.out_columns) continue;
    const int64_t out_row = RowOfOut(params, tile.first + row);
    if (gated) {
      const int gate = static_cast<int>(InterleavedRow(column, false));
      StoreSwiGlu<T>(params, out_row, first_column + column, total(row, gate),
                     total(row, gate + static_cast<int>(kGateGroup)));
    } else {
      StoreSum<T>(params, out_row, first_column + column, total(row, column));
    }
  }
}

template <typename T, int R, int C, bool kAligned>
LaunchError LaunchTile(const LaunchContext& context, const GemmParams& params) {
  const dim3 grid(static_cast<unsigned>(MaxRowTiles(params, 8 * C)),
                  static_cast<unsigned>(BlocksFor(params.n, 16 * R)));
  const auto threads = static_cast<unsigned>(32 * params.slices.count);
  const size_t shared_bytes = static_cast<size_t>(params.slices.count) *
                              WarpSums<T, R, C, kAligned>::kParts * (8 * C) * (16 * R) *
                              sizeof(float);
  return MOED_LAUNCH(context, (StreamGemm<T, R, C, kAligned>), grid, dim3(threads), shared_bytes,
                     params);
}

template <typename T, bool kAligned>
LaunchError LaunchAligned(const LaunchContext& context, const GemmParams& params) {
  // Experts' rows do not fall evenly; a second tile of an expert finds its weights in the
  // second-level cache. The bits do not depend on the tile.
  const int64_t window = WindowRows(params);
  const int64_t spread = 2 * RowsPerGroup(params);
  const int64_t rows = window < spread ? window : spread;
  if (rows <= 8) return LaunchTile<T, 1, 1, kAligned>(context, params);
  if constexpr (sizeof(T) == sizeof(float)) {
    return LaunchTile<T, 1, 2, kAligned>(context, params);
  } else if (rows <= 16) {
    return LaunchTile<T, 2, 2, kAligned>(context, params);
  } else {
    return LaunchTile<T, 2, 4, kAligned>(context, params);
  }
}

template <typename T>
LaunchError LaunchTyped(const LaunchContext& context, const GemmParams& params) {
  bool aligned = params.k * static_cast<int64_t>(sizeof(T)) % 16 == 0 &&
                 reinterpret_cast<uintptr_t>(params.x) % 16 == 0;
  for (int group = 0; group < params.num_groups; ++group) {
    aligned = aligned && reinterpret_cast<uintptr_t>(params.weights[group]) % 16 == 0;
  }
  return aligned ? LaunchAligned<T, true>(context, params)
                 : LaunchAligned<T, false>(context, params);
}

}  // namespace

LaunchError LaunchStreamGemm(const LaunchContext& context, const GemmParams& params) {
  return params.is_bfloat16 ? LaunchTyped<BFloat16>(context, params)
                            : LaunchTyped<float>(context, params);
}

}  // namespace moed::cuda
