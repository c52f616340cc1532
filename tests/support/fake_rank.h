// A rank that computes a FakeModel, and holds the planner to the contract of batch_plan.h. Its KV
// cache remembers which token of which context every entry stands for, so that a block that is
// shared wrongly, used twice, or read before it is written is a breach.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/schedule/batch_plan.h"
#include "tests/support/fake_model.h"

namespace moed {

struct FakeRankOptions : FakeModel {
  int32_t block_size = 4;
  int64_t num_blocks = 64;
  int32_t max_sequences = 8;
  int32_t max_rows = 32;
};

class FakeRank {
 public:
  explicit FakeRank(const FakeRankOptions& options)
      : options_(options),
        slots_(options.max_sequences),
        cache_(options.num_blocks * options.block_size) {}

  RankResult Step(const RankBatch& batch) {
    ++num_steps_;
    RankResult result;
    result.step = batch.step;
    result.expert_counts.assign(options_.num_layers * options_.num_experts, 0);
    result.repetition.same_first.assign(options_.num_layers, 0);
    result.repetition.any_shared.assign(options_.num_layers, 0);
    const int32_t num_rows = batch.num_rows();
    Require(num_rows <= options_.max_rows, "more rows than fit", num_rows);
    const bool gathers = batch.exchange == ExchangeStrategy::kGather;
    Require(gathers ? batch.padded_rows >= num_rows : batch.padded_rows == 0, "padding",
            batch.padded_rows);
    for (const SlotInit& init : batch.admitted) Admit(init);
    CopyBlocks(batch.block_copies);
    // As in a layer, everything is written before anything is read; what stands at a position
    // depends on those before it.
    std::vector<const SequenceChunk*> by_position;
    for (const SequenceChunk& chunk : batch.chunks) {
      if (Take(chunk)) by_position.push_back(&chunk);
    }
    std::stable_sort(by_position.begin(), by_position.end(), [](const auto* a, const auto* b) {
      return a->start_position < b->start_position;
    });
    if (!breach_.empty()) return result;
    for (const SequenceChunk* chunk : by_position) Write(*chunk);
    for (const SequenceChunk& chunk : batch.chunks) Read(chunk, &result);
    return result;
  }

  // The first breach of the contract, or empty. After one the rank answers nothing sensible.
  const std::string& breach() const { return breach_; }

 private:
  struct CacheEntry {
    uint64_t hash = 0;  // FakeEntry; 0: never written
    int32_t token = -1;
    int64_t written_in_step = 0;
  };
  struct Slot {
    SlotInit init;
    std::vector<int32_t> blocks;
    int32_t num_tokens = -1;  // in the cache; -1: no chunk yet
    int32_t last_sampled = -1;
    FakeHistory history;
    int64_t admitted_in_step = 0;  // 0: never filled
    int64_t chunk_in_step = 0;
  };

  void Require(bool condition, const char* what, int64_t value) {
    if (!condition && breach_.empty()) breach_ = absl::StrCat(what, " (", value, ")");
  }
  bool IsBlock(int32_t block) {
    const bool exists = block >= 0 && block < options_.num_blocks;
    Require(exists, "no such block", block);
    return exists;
  }
  bool IsSlot(int32_t slot) {
    const bool exists = slot >= 0 && slot < options_.max_sequences;
    Require(exists, "no such slot", slot);
    return exists;
  }
  CacheEntry& EntryAt(const Slot& slot, int32_t position) {
    const int32_t block = slot.blocks[position / options_.block_size];
    return cache_[block * options_.block_size + position % options_.block_size];
  }
  int32_t ExpertsPerToken(const Slot& slot) const {
    return slot.init.experts_per_token > 0 ? slot.init.experts_per_token
                                           : options_.experts_per_token;
  }

  void Admit(const SlotInit& init) {
    if (!IsSlot(init.slot)) return;
    Slot& slot = slots_[init.slot];
    Require(slot.admitted_in_step != num_steps_, "a slot is filled twice in a step", init.slot);
    Require(init.choice_index < static_cast<uint32_t>(init.sampling.n), "no such choice",
            init.choice_index);
    Require(init.experts_per_token >= 0 && init.experts_per_token <= options_.num_experts,
            "experts per token", init.experts_per_token);
    const bool needs_history = NeedsHistory(init.sampling);
    Require(needs_history != init.prompt_token_ids.empty(), "a history in vain, or none",
            init.slot);
    slot = Slot();
    slot.init = init;
    slot.admitted_in_step = num_steps_;
    for (const int32_t token : init.prompt_token_ids) slot.history.Add(init.sampling, token);
    for (const int32_t token : init.generated_token_ids) slot.history.Add(init.sampling, token);
  }

  void CopyBlocks(const std::vector<BlockCopy>& copies) {
    for (const BlockCopy& copy : copies) {
      if (!IsBlock(copy.from) || !IsBlock(copy.to)) return;
      for (const BlockCopy& other : copies) {
        Require(&other == &copy || other.to != copy.to, "a block is copied to twice", copy.to);
      }
      for (int32_t i = 0; i < options_.block_size; ++i) {
        cache_[copy.to * options_.block_size + i] = cache_[copy.from * options_.block_size + i];
      }
    }
  }

  // False: the chunk breaks the contract.
  bool Take(const SequenceChunk& chunk) {
    if (!IsSlot(chunk.slot)) return false;
    Slot& slot = slots_[chunk.slot];
    Require(slot.admitted_in_step != 0, "a chunk in a slot that was never filled", chunk.slot);
    Require(slot.chunk_in_step != num_steps_, "two chunks in slot", chunk.slot);
    Require(!chunk.tokens.empty(), "an empty chunk in slot", chunk.slot);
    Require(chunk.start_position >= 0, "position", chunk.start_position);
    Require(slot.num_tokens < 0 || chunk.start_position == slot.num_tokens,
            "tokens left out or repeated at position", chunk.start_position);
    slot.chunk_in_step = num_steps_;
    for (const int32_t block : chunk.new_blocks) {
      if (!IsBlock(block)) return false;
      Require(std::find(slot.blocks.begin(), slot.blocks.end(), block) == slot.blocks.end(),
              "a sequence has a block twice", block);
      slot.blocks.push_back(block);
    }
    const int64_t end = chunk.start_position + static_cast<int64_t>(chunk.tokens.size());
    Require(static_cast<int64_t>(slot.blocks.size()) * options_.block_size >= end,
            "too few blocks for tokens", end);
    Require(chunk.sample || chunk.fork_slots.empty(), "forks of nothing", chunk.slot);
    Require(chunk.logprob_targets.size() <= chunk.tokens.size(), "targets without rows",
            static_cast<int64_t>(chunk.logprob_targets.size()));
    return breach_.empty();
  }

  void Write(const SequenceChunk& chunk) {
    Slot& slot = slots_[chunk.slot];
    int32_t position = chunk.start_position;
    for (const int32_t given : chunk.tokens) {
      const int32_t token = given == kLastSampledToken ? slot.last_sampled : given;
      Require(token >= 0 && token < options_.vocab, "no such token, or none was sampled", given);
      const uint64_t previous =
          position == 0 ? FakeRoot(ExpertsPerToken(slot)) : EntryAt(slot, position - 1).hash;
      CacheEntry& entry = EntryAt(slot, position);
      Require(entry.written_in_step != num_steps_, "two sequences write into block",
              slot.blocks[position / options_.block_size]);
      entry = {FakeEntry(previous, token), token, num_steps_};
      ++position;
    }
    slot.num_tokens = position;
  }

  void Read(const SequenceChunk& chunk, RankResult* result) {
    Slot& slot = slots_[chunk.slot];
    ChunkReport report{chunk.slot, chunk.start_position, {}, {}, 0};
    uint64_t entry = FakeRoot(ExpertsPerToken(slot));
    uint64_t reading = 0;
    for (int32_t position = 0; position < slot.num_tokens; ++position) {
      const CacheEntry& cached = EntryAt(slot, position);
      entry = FakeEntry(entry, cached.token);
      Require(cached.hash == entry, "another context's entry, or none, at position", position);
      reading = FakeAttend(reading, entry);
      if (position >= chunk.start_position) {
        const size_t row = position - chunk.start_position;
        ReadRow(slot, reading, result, &report);
        if (row < chunk.logprob_targets.size()) {
          report.prompt_logprobs.push_back(FakePromptLogprob(
              options_, reading, chunk.logprob_targets[row], slot.init.num_prompt_logprobs));
          report.prompt_logprobs.back().slot = chunk.slot;
        }
      }
    }
    result->dropped_pairs += report.dropped_pairs;
    if (!report.prompt_logprobs.empty() || !report.routed_experts.empty() ||
        report.dropped_pairs > 0) {
      result->reports.push_back(std::move(report));
    }
    if (!chunk.sample) return;
    Sample(chunk, chunk.slot, slot.num_tokens, reading, result);
    for (const int32_t fork : chunk.fork_slots) {
      if (!IsSlot(fork)) return;
      Require(slots_[fork].admitted_in_step == num_steps_, "a fork of an earlier step", fork);
      Sample(chunk, fork, slot.num_tokens, reading, result);
    }
  }

  void ReadRow(const Slot& slot, uint64_t reading, RankResult* result, ChunkReport* report) {
    report->dropped_pairs += FakeDroppedPairs(options_, reading);
    for (int layer = 0; layer < options_.num_layers; ++layer) {
      for (int32_t i = 0; i < ExpertsPerToken(slot); ++i) {
        const int32_t expert = FakeExpert(options_, reading, layer, i);
        ++result->expert_counts[layer * options_.num_experts + expert];
        if (slot.init.routed_experts) {
          report->routed_experts.push_back(static_cast<int16_t>(expert));
        }
      }
    }
  }

  void Sample(const SequenceChunk& chunk, int32_t slot_id, int64_t position, uint64_t reading,
              RankResult* result) {
    Slot& slot = slots_[slot_id];
    const SlotInit& init = slot.init;
    SampledToken sample = FakeDraw(
        options_, reading, slot.history, init.sampling, init.choice_index, position,
        chunk.suppress ? init.suppressed_token_ids : std::vector<int32_t>(), init.num_logprobs);
    sample.slot = slot_id;
    slot.last_sampled = sample.token_id;
    slot.history.Add(init.sampling, sample.token_id);
    result->samples.push_back(std::move(sample));
  }

  const FakeRankOptions options_;
  std::vector<Slot> slots_;
  std::vector<CacheEntry> cache_;  // [num_blocks * block_size]
  int64_t num_steps_ = 0;
  std::string breach_;
};

}  // namespace moed
