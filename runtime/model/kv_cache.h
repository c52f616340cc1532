// The paged keys and values of one rank.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/dtype.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "runtime/checkpoint/model_config.h"

namespace moed {

// Blocks of `block_size` token slots; a block holds a layer's keys and values of its tokens in
// every layer. Which sequence has which block is the scheduler's business.
class KvCache {
 public:
  // Device memory of one block over all layers; at most kUncountableBytes (tensor_bytes.h).
  static int64_t BlockBytes(const ModelConfig& config, DType dtype, int64_t block_size);

  // Allocates all blocks (MemoryKind::kKvCache) in the backend's activation dtype. Sizes are
  // positive. Errors: those of Backend::Allocate.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(Backend& backend,
                                                         const ModelConfig& config,
                                                         int64_t num_blocks, int64_t block_size);

  int64_t num_blocks() const { return num_blocks_; }
  int64_t block_size() const { return block_size_; }
  TensorView keys(int layer) const { return View(keys_[layer]); }
  TensorView values(int layer) const { return View(values_[layer]); }

  // Enqueues the copy of a whole block, of every layer. `from` is not `to`.
  void CopyBlock(Backend& backend, Stream& stream, int64_t from, int64_t to) const;

 private:
  KvCache() = default;
  // [num_blocks, num_kv_heads, block_size, head_dim] act
  TensorView View(const Buffer& buffer) const {
    return buffer.View(dtype_, {num_blocks_, num_kv_heads_, block_size_, head_dim_});
  }

  DType dtype_ = DType::kFloat32;
  int64_t num_blocks_ = 0;
  int64_t num_kv_heads_ = 0;
  int64_t block_size_ = 0;
  int64_t head_dim_ = 0;
  std::vector<Buffer> keys_;    // [num_layers]
  std::vector<Buffer> values_;  // [num_layers]
};

}  // namespace moed
