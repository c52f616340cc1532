// The KV blocks of one rank.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "absl/types/span.h"

namespace moed {

// Hands out block ids [0, num_blocks), always the lowest that is free, so that the same requests
// get the same blocks in every run. Reservations promise blocks without choosing them yet: what is
// reserved can always be allocated. One thread at a time.
class BlockAllocator {
 public:
  explicit BlockAllocator(int64_t num_blocks);

  int64_t num_blocks() const { return static_cast<int64_t>(is_free_.size()); }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  int64_t num_reserved() const { return num_reserved_; }
  // Blocks that are neither allocated nor promised.
  int64_t num_available() const { return num_free() - num_reserved_; }

  // Promises `count` more blocks; false, and nothing changes, when fewer are available.
  bool Reserve(int64_t count);
  // Turns one promised block into an allocated one.
  int32_t AllocateReserved();
  // Takes back promises that were not used.
  void Unreserve(int64_t count);
  // Freeing a block that is free is our bug and ends the process.
  void Free(absl::Span<const int32_t> blocks);

 private:
  std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> free_;
  std::vector<bool> is_free_;  // [num_blocks]
  int64_t num_reserved_ = 0;
};

}  // namespace moed
