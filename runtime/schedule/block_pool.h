// The KV blocks of one rank: who uses them, and what those that nobody uses still hold.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <queue>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "runtime/schedule/block_hash.h"

namespace moed {

// Blocks [0, num_blocks) with a count of users each. A block may be published under the hash of its
// content; then it can be found and shared while it is used, and stays findable when nobody uses it
// any more, until its memory is needed: the least recently used goes first, of one sequence's
// blocks the last first. Nothing depends on addresses or time, so the same calls give the same
// blocks in every run. One thread at a time.
class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  // Blocks that nobody uses, published ones included: what can be allocated.
  int64_t num_free() const { return static_cast<int64_t>(empty_.size() + unused_.size()); }
  // Blocks that nobody uses and that can be found.
  int64_t num_cached() const { return static_cast<int64_t>(unused_.size()); }
  int64_t num_evictions() const { return num_evictions_; }
  int32_t num_users(int32_t block) const { return blocks_[block].num_users; }

  // A block with one user and no content: the lowest empty one, or else the least recently used
  // published one, which is then forgotten. nullopt: none is free.
  std::optional<int32_t> Allocate();

  // The block published under `hash`; nullopt: none. Shares nothing.
  std::optional<int32_t> Find(const BlockHash& hash) const;
  // One more user.
  void Share(int32_t block);
  // One user less of each. Where that was the last, the block is free. In the order of the
  // sequence's table. Releasing a block that nobody uses is our bug and ends the process.
  void Release(absl::Span<const int32_t> blocks);

  // Makes a block that is in use findable. False, and nothing changes, where a block with this
  // hash is there already or the block has a hash.
  bool Publish(int32_t block, const BlockHash& hash);

 private:
  struct Block {
    int32_t num_users = 0;
    std::optional<BlockHash> hash;
    std::list<int32_t>::iterator unused_at;  // while it is in unused_
  };

  std::vector<Block> blocks_;
  std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> empty_;
  std::list<int32_t> unused_;  // published, without users; the next to be evicted first
  absl::flat_hash_map<BlockHash, int32_t> published_;
  int64_t num_evictions_ = 0;
};

}  // namespace moed
