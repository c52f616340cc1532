#include "runtime/schedule/block_pool.h"

#include "kernels/core/check.h"

namespace moed {

BlockPool::BlockPool(int64_t num_blocks) : blocks_(num_blocks) {
  for (int32_t block = 0; block < num_blocks; ++block) empty_.push(block);
}

std::optional<int32_t> BlockPool::Allocate() {
  int32_t block = 0;
  if (!empty_.empty()) {
    block = empty_.top();
    empty_.pop();
  } else if (!unused_.empty()) {
    block = unused_.front();
    unused_.pop_front();
    published_.erase(*blocks_[block].hash);
    blocks_[block].hash.reset();
    ++num_evictions_;
  } else {
    return std::nullopt;
  }
  blocks_[block].num_users = 1;
  return block;
}

std::optional<int32_t> BlockPool::Find(const BlockHash& hash) const {
  const auto found = published_.find(hash);
  if (found == published_.end()) return std::nullopt;
  return found->second;
}

void BlockPool::Share(int32_t block) {
  MOED_CHECK(block >= 0 && block < num_blocks(), "a block that does not exist is shared");
  Block& state = blocks_[block];
  MOED_CHECK(state.num_users > 0 || state.hash.has_value(), "an empty block is shared");
  if (state.num_users == 0) unused_.erase(state.unused_at);
  ++state.num_users;
}

void BlockPool::Release(absl::Span<const int32_t> blocks) {
  for (auto it = blocks.rbegin(); it != blocks.rend(); ++it) {
    const int32_t block = *it;
    MOED_CHECK(block >= 0 && block < num_blocks(), "a block that does not exist is released");
    Block& state = blocks_[block];
    MOED_CHECK(state.num_users > 0, "a block is released twice");
    if (--state.num_users > 0) continue;
    if (state.hash.has_value()) {
      state.unused_at = unused_.insert(unused_.end(), block);
    } else {
      empty_.push(block);
    }
  }
}

bool BlockPool::Publish(int32_t block, const BlockHash& hash) {
  MOED_CHECK(block >= 0 && block < num_blocks(), "a block that does not exist is published");
  Block& state = blocks_[block];
  MOED_CHECK(state.num_users > 0, "a block that nobody uses is published");
  if (state.hash.has_value() || !published_.emplace(hash, block).second) return false;
  state.hash = hash;
  return true;
}

}  // namespace moed
