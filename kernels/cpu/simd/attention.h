// Attention over the paged cache (AttentionArgs in isa_kernels.h).
//
// For each tile of positions, in ascending order, and each row that sees any of it:
//   m' = max(m, max_j s_j); p_j = exp(s_j - m'); l = l exp(m - m') + sum_j p_j;
//   o = o exp(m - m') + sum_j p_j v_j. At the end out = o / l.
// Positions that a row may not see enter no sum: the junk or the infinities there stay theirs.
#pragma once

#include "kernels/cpu/simd/attention_tiles.h"
#include "kernels/cpu/simd/exp.h"
#include "kernels/cpu/simd/isa_kernels.h"
#include "kernels/cpu/simd/vector.h"

namespace moed {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

struct Range {
  int64_t begin;
  int64_t end;
};

// The state of one call; all memory is the caller's scratch.
template <typename T>
class Attention {
 public:
  explicit Attention(const AttentionArgs& args)
      : args_(args),
        num_rows_(int64_t{args.num_tokens} * args.group),
        width_((args.head_dim + kLanes - 1) / kLanes * kLanes) {
    float* next = args.scratch;
    const auto take = [&next](int64_t floats) {
      float* const taken = next;
      next += (floats + 15) / 16 * 16;
      return taken;
    };
    q_ = take(num_rows_ * args.head_dim);
    keys_ = take(args.head_dim * kAttentionTile);
    values_ = take(kAttentionTile * width_);
    scores_ = take(num_rows_ * kAttentionTile);
    sums_ = take(num_rows_ * width_);
    largest_ = take(num_rows_);
    totals_ = take(num_rows_);
  }

  void Run() {
    Start();
    const int64_t last = args_.first_position + args_.num_tokens - 1;
    const int64_t first = args_.window == 0 || args_.first_position < args_.window
                              ? 0
                              : args_.first_position - args_.window + 1;
    for (int64_t tile = first / kAttentionTile * kAttentionTile; tile <= last;
         tile += kAttentionTile) {
      const int64_t num_keys = last + 1 - tile < kAttentionTile ? last + 1 - tile : kAttentionTile;
      LoadTile(tile, num_keys);
      Scores(q_, num_rows_, args_.head_dim, keys_, num_keys, scores_);
      for (int64_t r = 0; r < num_rows_; ++r) Weigh(r, Visible(r, tile));
      for (int64_t r = 0; r < num_rows_; r += kQueryRows) AddValues(r, tile);
    }
    Finish();
  }

 private:
  // The part of the tile at `tile` that row r sees.
  Range Visible(int64_t r, int64_t tile) const {
    const int64_t position = args_.first_position + r / args_.group;
    const int64_t oldest =
        args_.window == 0 || position < args_.window ? 0 : position - args_.window + 1;
    const int64_t end = position + 1 - tile;
    return {oldest > tile ? oldest - tile : 0, end < kAttentionTile ? end : kAttentionTile};
  }

  void Start() {
    for (int64_t r = 0; r < num_rows_; ++r) {
      const float* q =
          args_.q + r / args_.group * args_.q_stride + r % args_.group * args_.head_dim;
      for (int64_t d = 0; d < args_.head_dim; ++d) {
        q_[r * args_.head_dim + d] = q[d] * args_.scale;
      }
      for (int64_t d = 0; d < width_; ++d) sums_[r * width_ + d] = 0;
      largest_[r] = kMinusInfinity;
      totals_[r] = 0;
    }
    for (int64_t i = 0; i < kAttentionTile * width_; ++i) values_[i] = 0;
    for (int64_t i = 0; i < kAttentionTile * args_.head_dim; ++i) keys_[i] = 0;
  }

  // Reads the tile's keys, turned, and values, widened.
  void LoadTile(int64_t tile, int64_t num_keys) {
    const int64_t head_dim = args_.head_dim;
    const auto* k_cache = static_cast<const T*>(args_.k_cache);
    const auto* v_cache = static_cast<const T*>(args_.v_cache);
    const T* keys[kAttentionTile];
    int64_t block = tile / args_.block_size;
    int64_t in_block = tile % args_.block_size;
    for (int64_t j = 0; j < num_keys; ++j) {
      const int64_t at = args_.blocks[block] * args_.block_stride + in_block * head_dim;
      keys[j] = k_cache + at;
      const T* value = v_cache + at;
      ForVectors(head_dim, [&](int64_t d, int64_t n) {
        StoreUpTo(LoadUpTo(value + d, n), n, values_ + j * width_ + d);
      });
      if (++in_block == args_.block_size) {
        in_block = 0;
        ++block;
      }
    }
    for (int64_t j = 0; j < num_keys; j += kLanes) {
      const int64_t count = num_keys - j < kLanes ? num_keys - j : kLanes;
      ForVectors(head_dim, [&](int64_t d, int64_t n) {
        F32 square[kLanes] = {};
        for (int64_t i = 0; i < count; ++i) square[i] = LoadUpTo(keys[j + i] + d, n);
        Transpose(square);
        for (int64_t i = 0; i < n; ++i) Store(square[i], keys_ + (d + i) * kAttentionTile + j);
      });
    }
  }

  // Turns row r's scores into weights and brings its earlier sums to the new largest score.
  void Weigh(int64_t r, Range visible) {
    float* scores = scores_ + r * kAttentionTile;
    if (visible.begin >= visible.end) return;
    for (int64_t j = 0; j < visible.begin; ++j) scores[j] = kMinusInfinity;
    for (int64_t j = visible.end; j < kAttentionTile; ++j) scores[j] = kMinusInfinity;
    F32 lanes = Load(scores);
    for (int j = kLanes; j < kAttentionTile; j += kLanes) lanes = Max(lanes, Load(scores + j));
    const float tile_largest = MaxLanes(lanes);
    const float old = largest_[r];
    const float largest = tile_largest > old ? tile_largest : old;
    F32 total{};
    for (int j = 0; j < kAttentionTile; j += kLanes) {
      const F32 score = Load(scores + j);
      const F32 weight = Select(score == Set(kMinusInfinity), F32{}, Exp(score - Set(largest)));
      Store(weight, scores + j);
      total += weight;
    }
    const float tile_total = SumLanes(total);
    if (largest == old) {
      totals_[r] += tile_total;
      return;
    }
    float factor[kLanes];
    Store(Exp(Set(old - largest)), factor);
    largest_[r] = largest;
    totals_[r] = totals_[r] * factor[0] + tile_total;
    float* sums = sums_ + r * width_;
    for (int64_t d = 0; d < width_; d += kLanes) Store(Load(sums + d) * Set(factor[0]), sums + d);
  }

  // Adds the tile's values to up to kQueryRows rows: together where all see a position, else
  // singly.
  void AddValues(int64_t first_row, int64_t tile) {
    const int64_t rows = num_rows_ - first_row < kQueryRows ? num_rows_ - first_row : kQueryRows;
    Range all = Visible(first_row, tile);
    for (int64_t r = 1; r < rows; ++r) {
      const Range visible = Visible(first_row + r, tile);
      all.begin = visible.begin > all.begin ? visible.begin : all.begin;
      all.end = visible.end < all.end ? visible.end : all.end;
    }
    const bool together = rows > 1 && all.begin < all.end;
    for (int64_t r = 0; r < rows; ++r) {
      const Range visible = Visible(first_row + r, tile);
      AddRow(first_row + r, visible.begin, together ? all.begin : visible.end);
    }
    if (!together) return;
    ValueTileOf(rows, scores_ + first_row * kAttentionTile, values_, width_, all.begin, all.end,
                sums_ + first_row * width_);
    for (int64_t r = 0; r < rows; ++r) {
      AddRow(first_row + r, all.end, Visible(first_row + r, tile).end);
    }
  }

  void AddRow(int64_t r, int64_t begin, int64_t end) {
    ValueTile<1>(scores_ + r * kAttentionTile, values_, width_, begin, end, sums_ + r * width_);
  }

  void Finish() {
    for (int64_t r = 0; r < num_rows_; ++r) {
      T* out = static_cast<T*>(args_.out) + r / args_.group * args_.out_stride +
               r % args_.group * args_.head_dim;
      const float* sums = sums_ + r * width_;
      ForVectors(args_.head_dim, [&](int64_t d, int64_t n) {
        StoreUpTo(Load(sums + d) / Set(totals_[r]), n, out + d);
      });
    }
  }

  const AttentionArgs& args_;
  const int64_t num_rows_;
  const int64_t width_;
  float* q_;        // [num_rows, head_dim], scaled
  float* keys_;     // [head_dim, kAttentionTile]
  float* values_;   // [kAttentionTile, width], zeros past head_dim
  float* scores_;   // [num_rows, kAttentionTile], then the weights
  float* sums_;     // [num_rows, width]
  float* largest_;  // [num_rows]
  float* totals_;   // [num_rows]
};

void Attend(const AttentionArgs& args) {
  if (args.cache_is_bf16) {
    Attention<uint16_t>(args).Run();
  } else {
    Attention<float>(args).Run();
  }
}

}  // namespace
}  // namespace moed
