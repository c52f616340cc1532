#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
namespace {

// out = x rotated by the angles of one position (half-split form).
template <typename Out>
void Rotate(const float* x, const float* cos_sin, int64_t head_dim, Out* out) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float cosine = cos_sin[i];
    const float sine = cos_sin[half + i];
    out[i] = FromFloat<Out>(x[i] * cosine - x[half + i] * sine);
    out[half + i] = FromFloat<Out>(x[half + i] * cosine + x[i] * sine);
  }
}

}  // namespace

void RotaryCacheWrite(const RotaryCacheWriteArgs& args) {
  if (args.q.dim(0) == 0) return;
  WithActType(args.k_cache.dtype(), [&]<typename T>(T) {
    const int64_t num_heads = args.q.dim(1);
    const int64_t head_dim = args.q.dim(2);
    const int64_t num_kv_heads = args.k_cache.dim(1);
    const int64_t block_size = args.k_cache.dim(2);
    const int64_t num_slots = args.k_cache.dim(0) * block_size;
    for (int64_t t = 0; t < args.q.dim(0); ++t) {
      const int64_t position = args.positions.data<int32_t>()[t];
      const int64_t slot = args.slot_mapping.data<int32_t>()[t];
      MOED_CHECK(position >= 0 && position < args.cos_sin.dim(0),
                 "RotaryCacheWrite: a position is out of range");
      MOED_CHECK(slot >= 0 && slot < num_slots, "RotaryCacheWrite: a slot is out of range");
      const float* cos_sin = args.cos_sin.data<float>() + position * head_dim;
      const float* query = args.qkv.data<float>() + t * args.qkv.dim(1);
      const float* key = query + num_heads * head_dim;
      const float* value = key + num_kv_heads * head_dim;
      float* q = args.q.data<float>() + t * num_heads * head_dim;
      for (int64_t h = 0; h < num_heads; ++h) {
        Rotate(query + h * head_dim, cos_sin, head_dim, q + h * head_dim);
      }
      for (int64_t h = 0; h < num_kv_heads; ++h) {
        const int64_t block = slot / block_size;
        const int64_t at = ((block * num_kv_heads + h) * block_size + slot % block_size) * head_dim;
        Rotate(key + h * head_dim, cos_sin, head_dim, args.k_cache.data<T>() + at);
        T* v = args.v_cache.data<T>() + at;
        for (int64_t i = 0; i < head_dim; ++i) v[i] = FromFloat<T>(value[h * head_dim + i]);
      }
    }
  });
}

}  // namespace moed::reference
