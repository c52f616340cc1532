#include "runtime/schedule/block_allocator.h"

#include <numeric>
#include <utility>

#include "kernels/core/check.h"

namespace moed {

BlockAllocator::BlockAllocator(int64_t num_blocks) : is_free_(num_blocks, true) {
  std::vector<int32_t> ids(num_blocks);
  std::iota(ids.begin(), ids.end(), 0);
  free_ = std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>>(std::greater<>(),
                                                                             std::move(ids));
}

bool BlockAllocator::Reserve(int64_t count) {
  MOED_CHECK(count >= 0, "a reservation of fewer than no blocks");
  if (count > num_available()) return false;
  num_reserved_ += count;
  return true;
}

int32_t BlockAllocator::AllocateReserved() {
  MOED_CHECK(num_reserved_ > 0, "a block is taken that was not reserved");
  --num_reserved_;
  const int32_t block = free_.top();
  free_.pop();
  is_free_[block] = false;
  return block;
}

void BlockAllocator::Unreserve(int64_t count) {
  MOED_CHECK(count >= 0 && count <= num_reserved_, "more promises are taken back than were given");
  num_reserved_ -= count;
}

void BlockAllocator::Free(absl::Span<const int32_t> blocks) {
  for (const int32_t block : blocks) {
    MOED_CHECK(block >= 0 && block < num_blocks(), "a block that does not exist is freed");
    MOED_CHECK(!is_free_[block], "a block is freed twice");
    is_free_[block] = true;
    free_.push(block);
  }
}

}  // namespace moed
