// What a rank knows of the sequences it is home to.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "runtime/engine/slot_history.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Host state by slot. A batch that does not fit is a bug of the planner and ends in MOED_CHECK.
class RankSlots {
 public:
  struct Limits {
    int32_t num_slots = 0;
    int64_t num_kv_blocks = 0;
    int64_t block_size = 0;
    int64_t max_positions = 0;
    int64_t vocab = 0;
    int32_t experts_per_token = 0;  // of a slot that does not say
    int32_t max_experts_per_token = 0;
  };

  // What a slot keeps room for: more than the ids that the front end lets a request suppress, its
  // stop tokens (64) and the model's end-of-sequence tokens. A longer list allocates in Admit.
  static constexpr int kReservedSuppressedIds = 128;

  explicit RankSlots(const Limits& limits);

  // Most blocks that one sequence can ever have.
  int64_t max_blocks_per_slot() const { return max_blocks_per_slot_; }

  // Empties the slot's block table and takes its sampling parameters and history. Takes memory only
  // for what lists and history the admission brings.
  void Admit(const SlotInit& init);
  // Appends the chunk's blocks and tokens to its slot, once a step. The tokens must follow those
  // before them, except right after admission, and lie in the slot's blocks.
  void Extend(uint64_t step, const SequenceChunk& chunk);
  // The slot, just admitted, draws its first token after another slot's row.
  void Fork(int32_t slot);
  // Parameters of the draw that follows position `position - 1`. Its spans hold until the slot's
  // next RecordSampled or Admit.
  SamplingRow MakeSamplingRow(int32_t slot, int64_t position, bool suppress);
  // The slot has drawn a token: kLastSampledToken means this one.
  void RecordSampled(int32_t slot, int32_t token_id);

  // Without the prompt and the tokens before a preemption, which are not kept.
  const SlotInit& init(int32_t slot) const { return slots_[slot].init; }
  int32_t experts_per_token(int32_t slot) const { return slots_[slot].experts_per_token; }
  // What kLastSampledToken means.
  int32_t last_sampled(int32_t slot) const { return slots_[slot].last_sampled; }
  absl::Span<const int32_t> blocks(int32_t slot) const { return slots_[slot].blocks; }
  // Place of a token in the cache: block * block_size + offset. The position was extended over.
  int32_t CacheSlot(int32_t slot, int64_t position) const {
    const int64_t block = slots_[slot].blocks[position / limits_.block_size];
    return static_cast<int32_t>(block * limits_.block_size + position % limits_.block_size);
  }

 private:
  void CheckInit(const SlotInit& init) const;

  struct Slot {
    bool admitted = false;
    bool forked = false;
    int32_t last_sampled = -1;            // -1: none since its admission
    std::optional<uint64_t> extended_in;  // step; unset since its admission
    int64_t next_position = 0;            // of the token that follows
    int32_t experts_per_token = 0;
    SlotInit init;
    SlotHistory history;
    std::vector<int32_t> removed;  // of the slot's draw: suppressed and banned tokens
    std::vector<int32_t> blocks;   // room for max_blocks_per_slot, taken at start
  };

  const Limits limits_;
  const int64_t max_blocks_per_slot_;
  std::vector<Slot> slots_;
};

}  // namespace moed
