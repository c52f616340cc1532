#include "runtime/engine/rank_slots.h"

#include <algorithm>
#include <limits>

#include "kernels/core/check.h"

namespace moed {

RankSlots::RankSlots(const Limits& limits)
    : limits_(limits),
      max_blocks_per_slot_(
          std::min(limits.num_kv_blocks,
                   (limits.max_positions + limits.block_size - 1) / limits.block_size)),
      slots_(static_cast<size_t>(limits.num_slots)) {
  MOED_CHECK(limits.num_kv_blocks <= std::numeric_limits<int32_t>::max() / limits.block_size,
             "a place in the KV cache does not fit an int32");
  for (Slot& slot : slots_) {
    slot.blocks.reserve(static_cast<size_t>(max_blocks_per_slot_));
    slot.init.suppressed_token_ids.reserve(kReservedSuppressedIds);
  }
}

void RankSlots::Admit(const SlotInit& init) {
  MOED_CHECK(init.slot >= 0 && init.slot < limits_.num_slots, "a slot outside the table");
  for (const int32_t id : init.suppressed_token_ids) {
    MOED_CHECK(id >= 0 && id < limits_.vocab, "a suppressed token outside the vocabulary");
  }
  Slot& slot = slots_[init.slot];
  slot.admitted = true;
  slot.has_sampled = false;
  slot.extended_in.reset();
  slot.next_position = 0;
  slot.init = init;  // into the capacity that is there
  slot.blocks.clear();
}

void RankSlots::Extend(uint64_t step, const SequenceChunk& chunk) {
  MOED_CHECK(chunk.slot >= 0 && chunk.slot < limits_.num_slots, "a slot outside the table");
  Slot& slot = slots_[chunk.slot];
  MOED_CHECK(slot.admitted, "a chunk for a slot that nothing was admitted to");
  MOED_CHECK(slot.extended_in != step, "a slot has two chunks in one step");
  MOED_CHECK(!chunk.tokens.empty(), "a chunk without tokens");
  MOED_CHECK(chunk.start_position == slot.next_position ||
                 (!slot.extended_in.has_value() && chunk.start_position >= 0),
             "a chunk does not follow the slot's tokens");
  for (const int32_t block : chunk.new_blocks) {
    MOED_CHECK(block >= 0 && block < limits_.num_kv_blocks, "a block outside the KV cache");
    MOED_CHECK(static_cast<int64_t>(slot.blocks.size()) < max_blocks_per_slot_,
               "a slot has more blocks than the context needs");
    slot.blocks.push_back(block);
  }
  for (const int32_t token : chunk.tokens) {
    MOED_CHECK(token == kLastSampledToken ? slot.has_sampled : token >= 0 && token < limits_.vocab,
               "an input token outside the vocabulary, or the last sampled one of a slot that has "
               "sampled none");
  }
  slot.extended_in = step;
  slot.next_position = chunk.start_position + static_cast<int64_t>(chunk.tokens.size());
  MOED_CHECK(slot.next_position <= limits_.max_positions, "a token past the model's positions");
  MOED_CHECK(slot.next_position <= static_cast<int64_t>(slot.blocks.size()) * limits_.block_size,
             "a token past the slot's blocks");
}

}  // namespace moed
