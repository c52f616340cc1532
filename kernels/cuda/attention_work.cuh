// Who computes what in paged attention: only the device knows how long chunks are, so blocks find
// their work by walking the chunks.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/warp.cuh"

namespace moed::cuda {

// The cache positions [begin, end) that a row sees.
struct PositionRange {
  int begin = 0;
  int end = 0;
};

struct Chunk {
  int first_token = 0;
  int num_tokens = 0;
  int context_length = 0;
  int first_piece = 0;  // of those that any of its rows sees
  int num_pieces = 0;
};

__device__ __forceinline__ PositionRange SeenByToken(const PagedAttentionParams& params,
                                                     const Chunk& chunk, int token) {
  const int end = chunk.context_length - chunk.num_tokens + token + 1;
  const int window = params.sliding_window;
  return {window == 0 || end < window ? 0 : end - window, end};
}

__device__ __forceinline__ Chunk ReadChunk(const PagedAttentionParams& params, int index) {
  Chunk chunk;
  chunk.first_token = params.chunk_starts[index];
  chunk.num_tokens = params.chunk_starts[index + 1] - chunk.first_token;
  chunk.context_length = params.context_lengths[index];
  if (chunk.num_tokens > 0 && chunk.context_length > 0) {
    chunk.first_piece = SeenByToken(params, chunk, 0).begin / kPieceTokens;
    chunk.num_pieces = (chunk.context_length - 1) / kPieceTokens + 1 - chunk.first_piece;
  }
  return chunk;
}

// How many partial results a chunk would need if it were split; none where it cannot be or is one
// piece.
__device__ __forceinline__ int64_t PartialsOf(const PagedAttentionParams& params,
                                              const Chunk& chunk) {
  if (chunk.num_tokens > MaxSplitTokens(params) || chunk.num_pieces <= 1) return 0;
  return static_cast<int64_t>(chunk.num_tokens) * chunk.num_pieces;
}

// `partials_end`: of this chunk and all before it.
__device__ __forceinline__ bool IsSplit(const PagedAttentionParams& params, const Chunk& chunk,
                                        int64_t partials_end) {
  return chunk.num_tokens > 0 && chunk.num_tokens <= MaxSplitTokens(params) &&
         partials_end <= params.partial_capacity;
}

template <typename T>
__device__ __forceinline__ T WarpInclusiveSum(T value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int offset = 1; offset < kWarpSize; offset *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, offset);
    if (lane >= offset) value += before;
  }
  return value;
}

// A tile of a chunk's rows of queries; row r of a chunk is head r % group of token r / group.
struct Work {
  Chunk chunk;
  int chunk_index = 0;
  int first_row = 0;
  int piece = 0;               // split only
  int64_t first_partial = -1;  // of the chunk, split only; -1: it has one piece
};

// Walks the work of a kernel in its order. Used by whole warps, each by itself.
class WorkCursor {
 public:
  // Split: the tiles and pieces of split chunks. Else: the tiles of the others, the last, which see
  // most, first.
  __device__ WorkCursor(const PagedAttentionParams& params, bool split, int tile_rows)
      : params_(params), split_(split), tile_rows_(tile_rows) {
    LoadBatch(0, 0, 0);
  }

  // The index-th piece of work, for indices that never fall; false past the last.
  __device__ bool Find(int64_t index, Work& work) {
    while (batch_ < params_.num_chunks) {
      const unsigned after = __ballot_sync(kAllLanes, index < work_end_);
      if (after != 0) {
        Take(index, __ffs(static_cast<int>(after)) - 1, work);
        return true;
      }
      LoadBatch(batch_ + kWarpSize, __shfl_sync(kAllLanes, work_end_, kWarpSize - 1),
                __shfl_sync(kAllLanes, partials_end_, kWarpSize - 1));
    }
    return false;
  }

 private:
  __device__ int64_t TilesOf(const Chunk& chunk) const {
    const int64_t rows = static_cast<int64_t>(chunk.num_tokens) * HeadsPerGroup(params_);
    return (rows + tile_rows_ - 1) / tile_rows_;
  }

  // Lane i takes chunk batch + i.
  __device__ void LoadBatch(int batch, int64_t work_before, int64_t partials_before) {
    batch_ = batch;
    const int index = batch + static_cast<int>(threadIdx.x) % kWarpSize;
    Chunk chunk;
    if (index < params_.num_chunks) chunk = ReadChunk(params_, index);
    partials_end_ = partials_before + WarpInclusiveSum(PartialsOf(params_, chunk));
    int64_t work = 0;
    if (IsSplit(params_, chunk, partials_end_) == split_) work = TilesOf(chunk);
    if (split_) work *= chunk.num_pieces;
    work_end_ = work_before + WarpInclusiveSum(work);
  }

  __device__ void Take(int64_t index, int lane, Work& work) const {
    work.chunk_index = batch_ + lane;
    work.chunk = ReadChunk(params_, work.chunk_index);
    const int64_t from_end = __shfl_sync(kAllLanes, work_end_, lane) - 1 - index;
    const int64_t partials = PartialsOf(params_, work.chunk);
    const int64_t partials_end = __shfl_sync(kAllLanes, partials_end_, lane);
    const int64_t pieces = split_ ? work.chunk.num_pieces : 1;
    work.first_row = static_cast<int>(from_end / pieces) * tile_rows_;
    work.piece = work.chunk.first_piece + static_cast<int>(pieces - 1 - from_end % pieces);
    work.first_partial = partials > 0 ? partials_end - partials : -1;
  }

  const PagedAttentionParams& params_;
  const bool split_;
  const int tile_rows_;
  int batch_ = 0;
  // Of the lane's chunk and all before it.
  int64_t work_end_ = 0;
  int64_t partials_end_ = 0;
};

}  // namespace moed::cuda
