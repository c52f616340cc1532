// A rank that computes nothing: its tokens are a function of seed and position alone, and it holds
// the planner to the contract of batch_plan.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"

namespace moed {

struct FakeRankOptions {
  int32_t vocab = 1000;
  int32_t block_size = 4;
  int64_t num_blocks = 64;
  int32_t max_sequences = 8;
  int32_t max_rows = 32;
  int num_layers = 2;
  int num_experts = 4;
};

// splitmix64's finaliser over (seed, position).
inline int32_t FakeToken(uint64_t seed, int64_t position, int32_t vocab) {
  uint64_t x = seed * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(position) + 1;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return static_cast<int32_t>((x ^ (x >> 31)) % static_cast<uint64_t>(vocab));
}

inline int32_t FakeTokenBesides(uint64_t seed, int64_t position, int32_t vocab,
                                const std::vector<int32_t>& suppressed) {
  int32_t token = FakeToken(seed, position, vocab);
  while (std::find(suppressed.begin(), suppressed.end(), token) != suppressed.end()) {
    token = (token + 1) % vocab;
  }
  return token;
}

// What a request gets when it is alone: the oracle of every schedule. Stop strings are not known
// here.
inline std::vector<int32_t> FakeContinuation(const GenerationRequest& request, int32_t vocab) {
  std::vector<int32_t> stops = request.stopping.eos_token_ids;
  stops.insert(stops.end(), request.stopping.stop_token_ids.begin(),
               request.stopping.stop_token_ids.end());
  std::vector<int32_t> tokens;
  while (static_cast<int32_t>(tokens.size()) < request.stopping.max_tokens) {
    const bool suppress = static_cast<int32_t>(tokens.size()) < request.stopping.min_tokens;
    tokens.push_back(
        FakeTokenBesides(request.sampling.seed,
                         static_cast<int64_t>(request.prompt_token_ids.size() + tokens.size()),
                         vocab, suppress ? stops : std::vector<int32_t>()));
    if (!suppress && std::find(stops.begin(), stops.end(), tokens.back()) != stops.end()) break;
  }
  return tokens;
}

class FakeRank {
 public:
  explicit FakeRank(const FakeRankOptions& options)
      : options_(options), slots_(options.max_sequences), owner_(options.num_blocks, -1) {}

  RankResult Step(const RankBatch& batch) {
    RankResult result;
    result.step = batch.step;
    result.expert_counts.assign(options_.num_layers * options_.num_experts, 0);
    Require(batch.num_rows() <= options_.max_rows, "more rows than fit", batch.step);
    for (const SlotInit& init : batch.admitted) {
      Require(init.slot >= 0 && init.slot < options_.max_sequences, "no such slot", init.slot);
      slots_[init.slot] = Slot{init, {}, {}, ++last_tenant_, 0};
    }
    for (const SequenceChunk& chunk : batch.chunks) RunChunk(chunk, &result);
    return result;
  }

  // The first breach of the contract, or empty.
  const std::string& breach() const { return breach_; }

 private:
  struct Slot {
    SlotInit init;
    std::vector<int32_t> blocks;
    std::vector<int32_t> tokens;  // whose KV is in the cache
    int64_t tenant = 0;           // 0: never filled
    int32_t last_sampled = -1;
  };

  void Require(bool condition, const char* what, int64_t value) {
    if (!condition && breach_.empty()) breach_ = absl::StrCat(what, " (", value, ")");
  }

  void RunChunk(const SequenceChunk& chunk, RankResult* result) {
    Slot& slot = slots_[chunk.slot];
    Require(slot.tenant != 0, "a chunk in a slot that was never filled", chunk.slot);
    Require(!chunk.tokens.empty(), "an empty chunk in slot", chunk.slot);
    const auto num_cached = static_cast<int64_t>(slot.tokens.size());
    Require(chunk.start_position == num_cached, "tokens left out or repeated at position",
            chunk.start_position);
    for (const int32_t block : chunk.new_blocks) {
      Require(block >= 0 && block < options_.num_blocks, "no such block", block);
      owner_[block] = slot.tenant;
      slot.blocks.push_back(block);
    }
    for (const int32_t block : slot.blocks) {
      Require(owner_[block] == slot.tenant, "another sequence took over block", block);
    }
    for (const int32_t token : chunk.tokens) {
      slot.tokens.push_back(token == kLastSampledToken ? slot.last_sampled : token);
      for (int layer = 0; layer < options_.num_layers; ++layer) {
        const int64_t expert = slot.tokens.back() % options_.num_experts;
        ++result->expert_counts[layer * options_.num_experts + expert];
      }
    }
    const auto capacity = static_cast<int64_t>(slot.blocks.size()) * options_.block_size;
    Require(capacity >= static_cast<int64_t>(slot.tokens.size()), "too few blocks for tokens",
            static_cast<int64_t>(slot.tokens.size()));
    if (!chunk.sample) return;
    slot.last_sampled =
        FakeTokenBesides(slot.init.seed, static_cast<int64_t>(slot.tokens.size()), options_.vocab,
                         chunk.suppress ? slot.init.suppressed_token_ids : std::vector<int32_t>());
    SampledToken sample{chunk.slot, slot.last_sampled, -1.0F, {}};
    for (int i = 0; i < slot.init.num_logprobs; ++i) {
      sample.top_logprobs.push_back({(slot.last_sampled + i) % options_.vocab, -1.0F - i});
    }
    result->samples.push_back(std::move(sample));
  }

  const FakeRankOptions options_;
  std::vector<Slot> slots_;
  std::vector<int64_t> owner_;  // [num_blocks] tenant that wrote last
  int64_t last_tenant_ = 0;
  std::string breach_;
};

}  // namespace moed
