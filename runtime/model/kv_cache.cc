#include "runtime/model/kv_cache.h"

#include <cstddef>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/model/tensor_bytes.h"

namespace moed {

int64_t KvCache::BlockBytes(const ModelConfig& config, DType dtype, int64_t block_size) {
  const int64_t keys =
      TensorBytes(dtype, {config.num_layers, config.num_kv_heads, block_size, config.head_dim});
  return AddBytes(keys, keys);
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(Backend& backend,
                                                         const ModelConfig& config,
                                                         int64_t num_blocks, int64_t block_size) {
  MOED_CHECK(num_blocks > 0 && block_size > 0, "a KV cache has blocks");
  auto cache = std::unique_ptr<KvCache>(new KvCache());
  cache->dtype_ = backend.activation_dtype();
  cache->num_blocks_ = num_blocks;
  cache->num_kv_heads_ = config.num_kv_heads;
  cache->block_size_ = block_size;
  cache->head_dim_ = config.head_dim;
  const int64_t bytes =
      TensorBytes(cache->dtype_, {num_blocks, config.num_kv_heads, block_size, config.head_dim});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    MOED_ASSIGN_OR_RETURN(Buffer keys, backend.Allocate(MemoryKind::kKvCache, bytes));
    MOED_ASSIGN_OR_RETURN(Buffer values, backend.Allocate(MemoryKind::kKvCache, bytes));
    cache->keys_.push_back(std::move(keys));
    cache->values_.push_back(std::move(values));
  }
  return cache;
}

void KvCache::CopyBlock(Backend& backend, Stream& stream, int64_t from, int64_t to) const {
  MOED_CHECK(from >= 0 && from < num_blocks_ && to >= 0 && to < num_blocks_ && from != to,
             "a block is copied to itself, or from or to one outside the KV cache");
  for (size_t layer = 0; layer < keys_.size(); ++layer) {
    for (const TensorView& cache : {View(keys_[layer]), View(values_[layer])}) {
      backend.CopyOnDevice(stream, cache.Rows(from, 1), cache.Rows(to, 1));
    }
  }
}

}  // namespace moed
