#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
namespace {

// One query head over the cache positions [begin, end): softmax in two passes.
template <typename T>
void AttendHead(const PagedAttentionArgs& args, const float* q, int64_t kv_head,
                const int32_t* blocks, int64_t begin, int64_t end, Scratch& scratch, T* out) {
  const int64_t head_dim = args.q.dim(2);
  const int64_t block_size = args.k_cache.dim(2);
  const auto offset_of = [&](int64_t position) {
    const int64_t block = blocks[position / block_size];
    MOED_CHECK(block >= 0 && block < args.k_cache.dim(0),
               "PagedAttention: a block id is out of range");
    return ((block * args.k_cache.dim(1) + kv_head) * block_size + position % block_size) *
           head_dim;
  };
  float* scores = scratch.scores.data();
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t p = begin; p < end; ++p) {
    const T* k = args.k_cache.data<T>() + offset_of(p);
    float dot = 0;
    for (int64_t i = 0; i < head_dim; ++i) dot += q[i] * ToFloat(k[i]);
    scores[p - begin] = dot * args.scale;
    largest = std::max(largest, scores[p - begin]);
  }
  float* sum_of_values = scratch.row.data();
  std::fill_n(sum_of_values, head_dim, 0.0F);
  float sum = 0;
  for (int64_t p = begin; p < end; ++p) {
    const T* v = args.v_cache.data<T>() + offset_of(p);
    const float weight = std::exp(scores[p - begin] - largest);
    sum += weight;
    for (int64_t i = 0; i < head_dim; ++i) sum_of_values[i] += weight * ToFloat(v[i]);
  }
  for (int64_t i = 0; i < head_dim; ++i) out[i] = FromFloat<T>(sum_of_values[i] / sum);
}

}  // namespace

void PagedAttention(const PagedAttentionArgs& args, Scratch& scratch) {
  if (args.q.dim(0) == 0) return;
  WithActType(args.k_cache.dtype(), [&]<typename T>(T) {
    const int64_t num_heads = args.q.dim(1);
    const int64_t head_dim = args.q.dim(2);
    const int64_t heads_per_kv = num_heads / args.k_cache.dim(1);
    const int64_t max_blocks = args.block_tables.dim(1);
    const int32_t* starts = args.chunk_starts.data<int32_t>();
    const int32_t* lengths = args.context_lengths.data<int32_t>();
    for (int64_t c = 0; c < args.context_lengths.dim(0); ++c) {
      const int32_t* blocks = args.block_tables.data<int32_t>() + c * max_blocks;
      MOED_CHECK(lengths[c] <= max_blocks * args.k_cache.dim(2),
                 "PagedAttention: a context is longer than its block table");
      for (int64_t t = starts[c]; t < starts[c + 1]; ++t) {
        const int64_t end = lengths[c] - (starts[c + 1] - t) + 1;
        const int64_t begin =
            args.sliding_window == 0 ? 0 : std::max<int64_t>(0, end - args.sliding_window);
        MOED_CHECK(end > 0 && end - begin <= static_cast<int64_t>(scratch.scores.size()),
                   "PagedAttention: a context length is out of the workspace's limits");
        for (int64_t h = 0; h < num_heads; ++h) {
          const int64_t at = (t * num_heads + h) * head_dim;
          AttendHead(args, args.q.data<float>() + at, h / heads_per_kv, blocks, begin, end, scratch,
                     args.out.data<T>() + at);
        }
      }
    }
  });
}

}  // namespace moed::reference
