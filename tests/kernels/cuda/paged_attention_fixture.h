// Sequences in a paged cache, and batches of their chunks, for the tests of attention.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/attention.h"
#include "tests/kernels/cpu/kernel_test.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda {

struct CacheShape {
  int64_t num_heads = 4;
  int64_t num_kv_heads = 2;
  int64_t head_dim = 16;
  int64_t block_size = 8;
  int32_t window = 0;

  std::string Text() const;
};

// The queries of all positions of some contexts, and a cache with their keys and values, standard
// normal. What no context owns is NaN.
struct Contexts {
  CacheShape shape;
  std::vector<int64_t> lengths;
  std::vector<Tensor> q;  // [length, num_heads, head_dim]
  Tensor k_cache;
  Tensor v_cache;
  std::vector<std::vector<int32_t>> blocks;

  // Of element 0 of a position's key or value.
  int64_t CacheIndex(int64_t context, int64_t position, int64_t kv_head) const;
};
// `block_seed` orders the physical blocks; the values do not depend on it.
Contexts MakeContexts(DType act, const CacheShape& shape, std::vector<int64_t> lengths,
                      uint32_t block_seed = 1);

// Positions [begin, end) of a context, as a chunk.
struct ChunkOf {
  int64_t context = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// Limits that let every chunk be split that may be.
WorkspaceLimits AttentionLimits(const CacheShape& shape, int64_t max_rows,
                                int64_t max_context_tokens);

class PagedAttentionTest : public DeviceTest, public testing::WithParamInterface<DType> {
 protected:
  DType act() const { return GetParam(); }

  // Attention of the chunks in one call, [rows, num_heads * head_dim]; on the device with scratch
  // for the given limits.
  Tensor Attend(const Contexts& contexts, const std::vector<ChunkOf>& chunks,
                const WorkspaceLimits& limits);
  Tensor Attend(const Contexts& contexts, const std::vector<ChunkOf>& chunks);
  // The CPU's reference kernel.
  Tensor AttendOnCpu(const Contexts& contexts, const std::vector<ChunkOf>& chunks);

  // Both, within the tolerance.
  void ExpectMatch(const Contexts& contexts, const std::vector<ChunkOf>& chunks);
};

}  // namespace moed::cuda
