#include "runtime/engine/rank_slots.h"

#include <algorithm>
#include <cstddef>
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

void RankSlots::CheckInit(const SlotInit& init) const {
  MOED_CHECK(init.slot >= 0 && init.slot < limits_.num_slots, "a slot outside the table");
  const auto check_ids = [this](const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      MOED_CHECK(id >= 0 && id < limits_.vocab, "a token of an admission outside the vocabulary");
    }
  };
  check_ids(init.suppressed_token_ids);
  check_ids(init.sampling.allowed_token_ids);
  check_ids(init.prompt_token_ids);
  check_ids(init.generated_token_ids);
  for (const std::vector<int32_t>& word : init.sampling.bad_words) {
    MOED_CHECK(!word.empty(), "a bad word without tokens");
    check_ids(word);
  }
  for (const TokenBias& bias : init.sampling.logit_bias) {
    MOED_CHECK(bias.token_id >= 0 && bias.token_id < limits_.vocab,
               "a token of an admission outside the vocabulary");
  }
  MOED_CHECK(init.experts_per_token >= 0 && init.experts_per_token <= limits_.max_experts_per_token,
             "more experts a token than the buffers hold");
}

void RankSlots::Admit(const SlotInit& init) {
  CheckInit(init);
  Slot& slot = slots_[init.slot];
  slot.admitted = true;
  slot.forked = false;
  slot.last_sampled = -1;
  slot.extended_in.reset();
  slot.next_position = 0;
  slot.experts_per_token =
      init.experts_per_token > 0 ? init.experts_per_token : limits_.experts_per_token;
  slot.init = init;  // into the capacity that is there
  slot.history.Reset(init, limits_.vocab, limits_.max_positions);
  // By swap, to give the memory back.
  std::vector<int32_t>().swap(slot.init.prompt_token_ids);
  std::vector<int32_t>().swap(slot.init.generated_token_ids);
  if (const size_t num_bad_words = init.sampling.bad_words.size(); num_bad_words > 0) {
    slot.removed.reserve(init.suppressed_token_ids.size() + num_bad_words);
  }
  slot.blocks.clear();
}

void RankSlots::Fork(int32_t slot_id) {
  MOED_CHECK(slot_id >= 0 && slot_id < limits_.num_slots, "a slot outside the table");
  Slot& slot = slots_[slot_id];
  MOED_CHECK(slot.admitted && !slot.forked && !slot.extended_in.has_value(),
             "a fork of a slot that is not just admitted");
  slot.forked = true;
}

SamplingRow RankSlots::MakeSamplingRow(int32_t slot_id, int64_t position, bool suppress) {
  Slot& slot = slots_[slot_id];
  const SamplingParams& sampling = slot.init.sampling;
  SamplingRow row{.slot = slot_id,
                  .temperature = sampling.temperature,
                  .top_k = sampling.top_k,
                  .top_p = sampling.top_p,
                  .min_p = sampling.min_p,
                  .typical_p = sampling.typical_p,
                  .seed = sampling.seed,
                  .choice_index = slot.init.choice_index,
                  .position = position,
                  .presence_penalty = sampling.presence_penalty,
                  .frequency_penalty = sampling.frequency_penalty,
                  .repetition_penalty = sampling.repetition_penalty,
                  .seen = slot.history.seen(),
                  .logit_bias = sampling.logit_bias,
                  .allowed_token_ids = sampling.allowed_token_ids,
                  .suppressed_token_ids = {}};
  if (suppress) row.suppressed_token_ids = slot.init.suppressed_token_ids;
  if (!sampling.bad_words.empty()) {
    slot.removed.assign(row.suppressed_token_ids.begin(), row.suppressed_token_ids.end());
    slot.history.AppendBanned(sampling.bad_words, slot.removed);
    row.suppressed_token_ids = slot.removed;
  }
  return row;
}

void RankSlots::RecordSampled(int32_t slot_id, int32_t token_id) {
  Slot& slot = slots_[slot_id];
  slot.last_sampled = token_id;
  slot.history.Append(token_id);
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
    MOED_CHECK(
        token == kLastSampledToken ? slot.last_sampled >= 0 : token >= 0 && token < limits_.vocab,
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
