#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/fast/fast_ops.h"

namespace moed::fast {
namespace {

struct Items {
  int64_t count = 0;
  int64_t key_reads = 0;  // query rows times positions, of one KV head
};

// Cuts the chunks into items and checks what the kernels read by index.
Items FindItems(const Context& context, const PagedAttentionArgs& args, int64_t item_tokens) {
  const int32_t* starts = args.chunk_starts.data<int32_t>();
  const int32_t* lengths = args.context_lengths.data<int32_t>();
  const int64_t block_size = args.k_cache.dim(2);
  const int64_t max_blocks = args.block_tables.dim(1);
  const int64_t num_chunks = args.context_lengths.dim(0);
  MOED_CHECK(num_chunks == 0 || (starts[0] == 0 && starts[num_chunks] == args.q.dim(0)),
             "PagedAttention: chunk_starts do not span the tokens");
  Items items;
  for (int64_t c = 0; c < num_chunks; ++c) {
    const int64_t num_tokens = starts[c + 1] - starts[c];
    MOED_CHECK(num_tokens >= 0 && num_tokens <= lengths[c],
               "PagedAttention: a chunk is longer than its context");
    MOED_CHECK(num_tokens == 0 || lengths[c] <= max_blocks * block_size,
               "PagedAttention: a context is longer than its block table");
    if (num_tokens == 0) continue;
    const int64_t first_position = lengths[c] - num_tokens;
    const int64_t oldest = args.sliding_window == 0
                               ? 0
                               : std::max<int64_t>(0, first_position - args.sliding_window + 1);
    const int32_t* blocks = args.block_tables.data<int32_t>() + c * max_blocks;
    const int64_t tile_start = oldest / kAttentionTile * kAttentionTile;
    for (int64_t b = tile_start / block_size; b * block_size < lengths[c]; ++b) {
      MOED_CHECK(blocks[b] >= 0 && blocks[b] < args.k_cache.dim(0),
                 "PagedAttention: a block id is out of range");
    }
    for (int64_t t = 0; t < num_tokens; t += item_tokens) {
      MOED_CHECK(items.count < context.workspace.num_attention_items,
                 "PagedAttention: more tokens than the workspace's limits");
      const int64_t size = std::min(item_tokens, num_tokens - t);
      context.workspace.attention_items[items.count++] = {
          static_cast<int32_t>(c), static_cast<int32_t>(starts[c] + t), static_cast<int32_t>(size)};
      items.key_reads += size * (first_position + t + size - oldest);
    }
  }
  return items;
}

}  // namespace

void PagedAttention(const Context& context, const PagedAttentionArgs& args) {
  if (args.out.empty()) return;
  const int64_t num_heads = args.q.dim(1);
  const int64_t head_dim = args.q.dim(2);
  const int64_t num_kv_heads = args.k_cache.dim(1);
  const int64_t block_size = args.k_cache.dim(2);
  const int64_t group = num_heads / num_kv_heads;
  const int64_t item_tokens = std::max<int64_t>(1, kAttentionRows / group);
  MOED_CHECK(AttentionScratchFloats(item_tokens * group, head_dim) * 4 <=
                 context.workspace.slots.slot_bytes(),
             "PagedAttention: heads or head_dim exceed the workspace's limits");
  const Items found = FindItems(context, args, item_tokens);
  const int32_t* starts = args.chunk_starts.data<int32_t>();
  const int32_t* lengths = args.context_lengths.data<int32_t>();
  const int64_t element_bytes = DTypeBytes(context.act);

  const auto attend = [&](const AttentionItem& item, int64_t kv_head, float* scratch) {
    const int64_t c = item.chunk;
    const int64_t head = item.first_token * num_heads + kv_head * group;
    const int64_t cache_offset = kv_head * block_size * head_dim * element_bytes;
    context.isa.attend({
        .q = args.q.data<float>() + head * head_dim,
        .q_stride = num_heads * head_dim,
        .num_tokens = item.num_tokens,
        .group = static_cast<int>(group),
        .head_dim = head_dim,
        .first_position = lengths[c] - (starts[c + 1] - item.first_token),
        .k_cache = static_cast<const std::byte*>(args.k_cache.raw()) + cache_offset,
        .v_cache = static_cast<const std::byte*>(args.v_cache.raw()) + cache_offset,
        .cache_is_bf16 = context.act == DType::kBFloat16,
        .block_stride = num_kv_heads * block_size * head_dim,
        .block_size = block_size,
        .blocks = args.block_tables.data<int32_t>() + c * args.block_tables.dim(1),
        .scale = args.scale,
        .window = args.sliding_window,
        .scratch = scratch,
        .out = static_cast<std::byte*>(args.out.raw()) + head * head_dim * element_bytes,
        .out_stride = num_heads * head_dim,
    });
  };
  // Items are (tokens, KV head); the last tokens of a prompt, which read most, come first.
  const int64_t num_items = found.count * num_kv_heads;
  const int64_t item_work =
      std::max<int64_t>(1, found.key_reads / std::max<int64_t>(1, found.count)) * group *
      (head_dim + 32) / 32;
  context.pool.ParallelFor(
      num_items, Grain(context.pool, num_items, item_work), [&](int64_t begin, int64_t end) {
        const ScratchSlots::Lease lease(context.workspace.slots);
        for (int64_t i = begin; i < end; ++i) {
          const int64_t item = found.count - 1 - i / num_kv_heads;
          attend(context.workspace.attention_items[item], i % num_kv_heads, lease.data<float>());
        }
      });
}

}  // namespace moed::fast
