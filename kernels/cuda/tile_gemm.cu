// Tiled bfloat16 matrix product: mma.sync on tiles that cp.async brings into shared memory.
//
//   weight [n, k], x [rows, k], bfloat16, rows of whole 16 bytes; sums in float32
//   grid   (row tiles of kBlockRows, weight tiles of kBlockWeights, 1 or the slices of K): blocks
//          of one weight tile are neighbours, and share it in the second-level cache
//   block  256 threads, 8 warps in a grid of kWarpsAcross (weight rows) times the rest (rows of x)
//   shared kStages tiles of [kBlockWeights + kBlockRows, 64]: 96 KiB at 128 x 128
//
// Two numbers of blocks: where the tiles alone keep the device busy, a block sums all slices of K
// (gemm_params.h) one after another; where they do not, each slice has a block of its own, writes
// its sums to `partials`, and AddSlices adds them in the same order. The bits are those of
// LaunchStreamGemm: same instruction, same operands' roles, same permutation and order of K.
//
// Expected, not measured: at 128 x 128 (244 registers a thread, one block an SM) about half of the
// tensor cores' peak on sm_90, which mma.sync cannot reach there, and 60 to 70 % on sm_80. Up to 64
// rows the weights' bytes are the time; a block of 128 weight rows then reads half as many bytes of
// x, from the second-level cache.
//
// Rows lie in shared memory as 8 pieces of 16 bytes, piece c of row r at c ^ 4 (r % 2): a lane
// reads its 8 elements of K in one 16-byte load, and the 8 lanes of a quarter warp (two rows, four
// pieces) meet every bank once.
#include "kernels/cuda/tile_gemm.h"

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/gemm_tile.cuh"
#include "kernels/cuda/mma.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStages = 3;
constexpr int kDepth = 64;    // of K in a stage
constexpr int kPieces = 8;    // of 16 bytes, of a row in a stage
constexpr int kElements = 8;  // in a piece
static_assert(kDepth == kPieces * kElements && kSliceUnit % kDepth == 0);

template <int kBlockWeights_, int kBlockRows_, int kWarpsAcross_>
struct Shape {
  static constexpr int kBlockWeights = kBlockWeights_;
  static constexpr int kBlockRows = kBlockRows_;
  static constexpr int kWarpsAcross = kWarpsAcross_;
  static constexpr int kWarpsDown = kThreads / 32 / kWarpsAcross;
  static constexpr int kWarpWeights = kBlockWeights / kWarpsAcross;
  static constexpr int kWarpRows = kBlockRows / kWarpsDown;
  static constexpr int kR = kWarpWeights / 16;  // tensor-core tiles of a warp
  static constexpr int kC = kWarpRows / 8;
  static constexpr size_t kSharedBytes =
      static_cast<size_t>(kStages) * (kBlockWeights + kBlockRows) * kPieces * sizeof(Vec16);
  static_assert(kWarpWeights % 16 == 0 && kWarpRows % 8 == 0 && kBlockRows % 32 == 0);
};
using LargeShape = Shape<128, 128, 2>;
using MiddleShape = Shape<128, 64, 4>;
using SmallShape = Shape<128, 32, 4>;

__device__ __forceinline__ int PieceAt(int row, int piece) {
  return row * kPieces + (piece ^ ((row & 1) << 2));  // so that constant rows fold into addresses
}

// Copies the tiles of one block, stage by stage.
template <typename S>
class TileLoader {
 public:
  static constexpr int kRowsAtOnce = kThreads / kPieces;
  static constexpr int kWeightCopies = S::kBlockWeights / kRowsAtOnce;
  static constexpr int kXCopies = S::kBlockRows / kRowsAtOnce;

  __device__ TileLoader(const GemmParams& params, const RowTile& tile, int64_t n0, Vec16* shared)
      : shared_(shared), k_(params.k) {
    MOED_UNROLL
    for (int i = 0; i < kWeightCopies; ++i) {
      const int64_t row = n0 + Row(i);
      weights_[i] = static_cast<const BFloat16*>(tile.weight) +
                    (row < params.n ? row : params.n - 1) * params.k;
    }
    MOED_UNROLL
    for (int i = 0; i < kXCopies; ++i) {
      const int row = Row(i);
      x_[i] =
          RowOfX<BFloat16>(params, tile.first + (row < tile.num_rows ? row : tile.num_rows - 1));
    }
  }

  __device__ void Load(int stage, int64_t k) {
    Vec16* weights = Weights(stage);
    Vec16* x = X(stage);
    const int64_t at = k + Piece() * kElements;
    const bool valid = at < k_;
    const int64_t offset = valid ? at : 0;
    MOED_UNROLL
    for (int i = 0; i < kWeightCopies; ++i) {
      CopyAsync16(weights + PieceAt(Row(i), Piece()), weights_[i] + offset, valid);
    }
    MOED_UNROLL
    for (int i = 0; i < kXCopies; ++i) {
      CopyAsync16(x + PieceAt(Row(i), Piece()), x_[i] + offset, valid);
    }
  }

  __device__ Vec16* Weights(int stage) const {
    return shared_ + stage * ((S::kBlockWeights + S::kBlockRows) * kPieces);
  }
  __device__ Vec16* X(int stage) const { return Weights(stage) + S::kBlockWeights * kPieces; }

 private:
  static __device__ int Piece() { return static_cast<int>(threadIdx.x) % kPieces; }
  static __device__ int Row(int i) {
    return static_cast<int>(threadIdx.x) / kPieces + i * kRowsAtOnce;
  }

  Vec16* shared_;
  int64_t k_;
  const BFloat16* weights_[kWeightCopies];
  const BFloat16* x_[kXCopies];
};

// sums += the products of one stage; `depth` is what of it is within K.
template <typename S>
__device__ __forceinline__ void MultiplyStage(const Vec16* weights, const Vec16* x, int64_t depth,
                                              FragmentD (&sums)[S::kR][S::kC]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int weight_row = warp % S::kWarpsAcross * S::kWarpWeights + lane / 4;
  const int x_row = warp / S::kWarpsAcross * S::kWarpRows + lane / 4;
  MOED_UNROLL
  for (int step = 0; step < kDepth / 32; ++step) {
    if (step * 32 >= depth) break;
    const int piece = step * 4 + lane % 4;
    Vec16 b[S::kC];
    MOED_UNROLL
    for (int c = 0; c < S::kC; ++c) b[c] = x[PieceAt(x_row + c * 8, piece)];
    MOED_UNROLL
    for (int r = 0; r < S::kR; ++r) {
      const Vec16 low = weights[PieceAt(weight_row + r * 16, piece)];
      const Vec16 high = weights[PieceAt(weight_row + r * 16 + 8, piece)];
      MOED_UNROLL
      for (int half = 0; half < 2; ++half) {
        const FragmentA a = {low.words[2 * half], high.words[2 * half], low.words[2 * half + 1],
                             high.words[2 * half + 1]};
        MOED_UNROLL
        for (int c = 0; c < S::kC; ++c) {
          MultiplyAdd(sums[r][c], a, {b[c].words[2 * half], b[c].words[2 * half + 1]});
        }
      }
    }
  }
}

// total += sums; sums = 0.
template <typename S>
__device__ __forceinline__ void EndSlice(FragmentD (&total)[S::kR][S::kC],
                                         FragmentD (&sums)[S::kR][S::kC]) {
  MOED_UNROLL
  for (int r = 0; r < S::kR; ++r) {
    MOED_UNROLL
    for (int c = 0; c < S::kC; ++c) {
      MOED_UNROLL
      for (int i = 0; i < 4; ++i) total[r][c].r[i] += sums[r][c].r[i];
      sums[r][c] = FragmentD{};
    }
  }
}

// Where the sums of a tile's slice lie: [slices][row tiles][kBlockRows][n].
template <typename S>
__device__ __forceinline__ float* PartialRow(const GemmParams& params, int64_t slice,
                                             int64_t num_tiles, int64_t tile, int row) {
  return params.partials + ((slice * num_tiles + tile) * S::kBlockRows + row) * params.n;
}

// Two neighbours of one fragment row: weight rows n and n + 8 for row `row` of the tile.
template <typename S>
__device__ __forceinline__ void StorePair(const GemmParams& params, const RowTile& tile, int row,
                                          int64_t n, float low, float high) {
  if (row >= tile.num_rows || n >= params.n) return;
  if (gridDim.z > 1) {
    float* to = PartialRow<S>(params, blockIdx.z, gridDim.x, blockIdx.x, row);
    to[n] = low;
    if (n + 8 < params.n) to[n + 8] = high;
    return;
  }
  const int64_t out_row = RowOfOut(params, tile.first + row);
  if (params.output == GemmOutput::kSwiGlu) {
    const int64_t column = n / (2 * kGateGroup) * kGateGroup + n % kGateGroup;
    if (column < params.out_columns) StoreSwiGlu<BFloat16>(params, out_row, column, low, high);
  } else {
    StoreSum<BFloat16>(params, out_row, n, low);
    if (n + 8 < params.n) StoreSum<BFloat16>(params, out_row, n + 8, high);
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads) TileGemm(GemmParams params) {
  MOED_DYNAMIC_SHARED(Vec16, shared);
  const RowTile tile = FindRowTile(params, blockIdx.x, S::kBlockRows);
  if (tile.num_rows == 0) return;
  const int64_t n0 = static_cast<int64_t>(blockIdx.y) * S::kBlockWeights;
  const bool one_slice = gridDim.z > 1;
  const int64_t begin = one_slice ? blockIdx.z * params.slices.length : 0;
  const int64_t slice_end = begin + params.slices.length;
  const int64_t end = one_slice && slice_end < params.k ? slice_end : params.k;

  TileLoader<S> loader(params, tile, n0, shared);
  MOED_UNROLL
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (begin + stage * kDepth < end) loader.Load(stage, begin + stage * kDepth);
    CommitCopies();
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t warp_weight_row = n0 + warp % S::kWarpsAcross * S::kWarpWeights;
  const int warp_x_row = warp / S::kWarpsAcross * S::kWarpRows;
  // A warp without rows helps to load, and leaves the tensor cores to the others.
  const bool has_rows = warp_weight_row < params.n && warp_x_row < tile.num_rows;
  FragmentD total[S::kR][S::kC] = {};
  FragmentD sums[S::kR][S::kC] = {};
  int stage = 0;
  int64_t next_slice = begin + params.slices.length;
  for (int64_t k = begin; k < end; k += kDepth) {
    WaitForCopies<kStages - 2>();
    __syncthreads();  // the stage is there, and the one before it is free
    const int64_t ahead = k + (kStages - 1) * kDepth;
    if (ahead < end) loader.Load((stage + kStages - 1) % kStages, ahead);
    CommitCopies();
    if (has_rows) {
      MultiplyStage<S>(loader.Weights(stage), loader.X(stage), params.k - k, sums);
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
    if (k + kDepth == next_slice || k + kDepth >= end) {
      EndSlice<S>(total, sums);
      next_slice += params.slices.length;
    }
  }

  const int64_t weight_row = warp_weight_row + lane / 4;
  const int x_row = warp_x_row + lane % 4 * 2;
  MOED_UNROLL
  for (int c = 0; c < S::kC; ++c) {
    MOED_UNROLL
    for (int r = 0; r < S::kR; ++r) {
      const FragmentD& d = total[r][c];
      StorePair<S>(params, tile, x_row + c * 8, weight_row + r * 16, d.r[0], d.r[2]);
      StorePair<S>(params, tile, x_row + c * 8 + 1, weight_row + r * 16, d.r[1], d.r[3]);
    }
  }
}

constexpr int kAddColumns = 128;  // of a block

// The final sum over slices that TileGemm left in `partials`. Grid (row tiles, columns / 128).
template <typename S>
__global__ void __launch_bounds__(kThreads) AddSlices(GemmParams params) {
  const RowTile tile = FindRowTile(params, blockIdx.x, S::kBlockRows);
  const int64_t first_column = static_cast<int64_t>(blockIdx.y) * kAddColumns;
  const auto total = [&](int row, int64_t n) {
    float sum = 0;
    for (int slice = 0; slice < params.slices.count; ++slice) {
      sum += PartialRow<S>(params, slice, gridDim.x, blockIdx.x, row)[n];
    }
    return sum;
  };
  for (int i = static_cast<int>(threadIdx.x); i < tile.num_rows * kAddColumns; i += kThreads) {
    const int row = i / kAddColumns;
    const int64_t column = first_column + i % kAddColumns;
    if (column >= params.out_columns) continue;
    const int64_t out_row = RowOfOut(params, tile.first + row);
    if (params.output == GemmOutput::kSwiGlu) {
      const int64_t gate = InterleavedRow(column, false);
      StoreSwiGlu<BFloat16>(params, out_row, column, total(row, gate),
                            total(row, gate + kGateGroup));
    } else {
      StoreSum<BFloat16>(params, out_row, column, total(row, column));
    }
  }
}

template <typename S>
LaunchError LaunchShape(const LaunchContext& context, const GemmParams& params) {
  const int64_t row_tiles = MaxRowTiles(params, S::kBlockRows);
  const int64_t weight_tiles = BlocksFor(params.n, S::kBlockWeights);
  const int64_t num_partials = params.slices.count * row_tiles * S::kBlockRows * params.n;
  const bool split = params.slices.count > 1 && row_tiles * weight_tiles < context.num_sms &&
                     params.partials != nullptr && num_partials <= params.num_partials;
  const dim3 grid(static_cast<unsigned>(row_tiles), static_cast<unsigned>(weight_tiles),
                  split ? static_cast<unsigned>(params.slices.count) : 1U);
  const LaunchError error =
      MOED_LAUNCH(context, (TileGemm<S>), grid, dim3(kThreads), S::kSharedBytes, params);
  if (error != 0 || !split) return error;
  const dim3 add_grid(static_cast<unsigned>(row_tiles),
                      static_cast<unsigned>(BlocksFor(params.out_columns, kAddColumns)));
  return MOED_LAUNCH(context, (AddSlices<S>), add_grid, dim3(kThreads), 0, params);
}

}  // namespace

bool CanTile(const LaunchContext& context, const GemmParams& params) {
  bool aligned = params.k * static_cast<int64_t>(sizeof(BFloat16)) % 16 == 0 &&
                 reinterpret_cast<uintptr_t>(params.x) % 16 == 0;
  for (int group = 0; group < params.num_groups; ++group) {
    aligned = aligned && reinterpret_cast<uintptr_t>(params.weights[group]) % 16 == 0;
  }
  return params.is_bfloat16 && aligned && params.k > 0 &&
         static_cast<int64_t>(LargeShape::kSharedBytes) <= context.max_shared_bytes_per_block;
}

LaunchError LaunchTileGemm(const LaunchContext& context, const GemmParams& params) {
  const int64_t rows = RowsPerGroup(params);
  if (rows <= SmallShape::kBlockRows) return LaunchShape<SmallShape>(context, params);
  if (rows <= MiddleShape::kBlockRows) return LaunchShape<MiddleShape>(context, params);
  return LaunchShape<LargeShape>(context, params);
}

int64_t UsefulPartials(int64_t rows, int64_t n) {
  // Past this the tiles alone fill any device; the float32 sums of 8 slices are then 32 MiB.
  constexpr int64_t kMost = int64_t{8} << 20;
  const int64_t padded_rows = BlocksFor(rows, LargeShape::kBlockRows) * LargeShape::kBlockRows;
  const int64_t all = kMaxSlices * padded_rows * n;
  return all < kMost ? all : kMost;
}

}  // namespace moed::cuda
