// The inner loops of the fast backend, one table per instruction set. Plain types only: this header
// is compiled into files with their own instruction set flags, and an inline function shared with
// other files could carry those instructions into them.
#pragma once

#include <cstdint>

namespace moed {

// One register tile of a product: c[row][column] = sum over k, ascending, of rows[row][k] *
// panel[k][column]. The order of operations of an element does not depend on num_rows, nor on
// where a sum is cut into pieces (`resume`).
struct TileArgs {
  const void* const* rows;  // [num_rows] activations, each at its first k
  int num_rows;             // 1..tile_rows
  const void* panel;        // packed weights at the first k (packed_matrix.h)
  int64_t k;                // even unless it is the last piece of a sum
  bool resume;              // true: continue the sums in c; false: start from 0
  float* c;                 // [num_rows, panel_columns], 64-byte aligned
};

inline constexpr int kAttentionTile = 64;  // cache positions of one step of the softmax

// Attention of the query heads that share one KV head, for consecutive tokens of one chunk. Walks
// the cache in tiles that start at multiples of kAttentionTile of the absolute position, so that a
// token's result depends on neither chunks nor neighbours (online softmax, Milakov and
// Gimelshein 2018).
struct AttentionArgs {
  const float* q;          // first token's first head of the group; heads are contiguous
  int64_t q_stride;        // floats from token to token
  int num_tokens;          // num_tokens * group <= the rows of the scratch memory
  int group;               // query heads
  int64_t head_dim;        //
  int64_t first_position;  // of the first token; the others follow
  const void* k_cache;     // this KV head's part of block 0, [block_size, head_dim]
  const void* v_cache;     //
  bool cache_is_bf16;      // else float32; `out` is of the same dtype
  int64_t block_stride;    // elements from block to block
  int64_t block_size;      // tokens
  const int32_t* blocks;   // the chunk's block table
  float scale;             //
  int64_t window;          // 0: none
  float* scratch;          // AttentionScratchFloats(num_tokens * group, head_dim), 64-byte aligned
  void* out;               // as q, in the cache's dtype
  int64_t out_stride;      // elements from token to token
};

struct IsaKernels {
  const char* name;
  int panel_columns;  // columns of a packed panel, a multiple of 8
  int tile_rows;      // most rows of a tile
  // bfloat16 weights lie in pairs of k, and activations stay bfloat16; otherwise they lie singly
  // and the activations of a product are widened to float32 first.
  bool bf16_pairs;

  void (*tile_float32)(const TileArgs& args);
  void (*tile_bfloat16)(const TileArgs& args);
  // out[i] = gate[i] / (1 + exp(-gate[i])) * up[i].
  void (*silu_multiply)(const float* gate, const float* up, int64_t count, float* out);
  void (*widen)(const uint16_t* bf16, int64_t count, float* out);
  // Rounds to nearest even; a NaN stays a NaN.
  void (*narrow)(const float* values, int64_t count, uint16_t* bf16);
  // RMSNorm of one row into float32 (may be x itself).
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t size, float* out);
  // logits[e] = x . weight[e]; x float32, or bfloat16 where x_is_bf16.
  void (*router_logits)(const void* x, bool x_is_bf16, const float* weight, int64_t num_experts,
                        int64_t hidden, float* logits);
  void (*attend)(const AttentionArgs& args);
  float (*maximum)(const float* x, int64_t size);  // no NaN in x; size >= 1
  // Sum of exp((x[i] - largest) / temperature).
  double (*sum_exp)(const float* x, int64_t size, float largest, float temperature);
  // Sum of z exp(z), z = (x[i] - largest) / temperature; a z of -infinity adds 0.
  double (*sum_z_exp)(const float* x, int64_t size, float largest, float temperature);
};

// Floats of scratch memory for `rows` query rows of `head_dim`, for any instruction set.
int64_t AttentionScratchFloats(int64_t rows, int64_t head_dim);

const IsaKernels& BaselineKernels();  // what every CPU of the architecture has
#if defined(__x86_64__)
const IsaKernels& Avx2Kernels();        // AVX2 and FMA
const IsaKernels& Avx512Bf16Kernels();  // AVX-512 F, BW, DQ, VL and BF16
#endif

}  // namespace moed
