#include "runtime/engine/null_worker_group.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

absl::Status CheckRange(absl::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " must be in [", low, ", ", high, "], not ", value));
}

// Sebastiano Vigna's splitmix64: one step of it spreads every bit of the input over the output.
uint64_t Mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

uint64_t HashOf(const SamplingRow& row) {
  const auto position = static_cast<uint64_t>(row.position);
  if (row.temperature == 0) return Mix(position);
  return Mix(Mix(Mix(row.seed) ^ row.choice_index) ^ position);
}

}  // namespace

absl::StatusOr<WorkerGroupInfo> NullWorkerGroup::Start(const RankProgressCallback& progress) {
  const NullWorkerGroupOptions& o = options_;
  constexpr int64_t kMost = int64_t{1} << 30;
  MOED_RETURN_IF_ERROR(CheckRange("num_ranks", o.num_ranks, 1, kMost));
  MOED_RETURN_IF_ERROR(CheckRange("block_size", o.block_size, 1, kMost));
  MOED_RETURN_IF_ERROR(
      CheckRange("num_kv_blocks_per_rank", o.num_kv_blocks_per_rank, 1, kMost / o.block_size));
  MOED_RETURN_IF_ERROR(CheckRange("max_sequences_per_rank", o.max_sequences_per_rank, 1, kMost));
  MOED_RETURN_IF_ERROR(CheckRange("max_rows_per_step", o.max_rows_per_step, 1, kMost));
  MOED_RETURN_IF_ERROR(CheckRange("max_positions", o.max_positions, 1, kMost));
  MOED_RETURN_IF_ERROR(CheckRange("num_layers", o.num_layers, 1, kMost));
  MOED_RETURN_IF_ERROR(CheckRange("num_experts", o.num_experts, 1, kMost));
  MOED_RETURN_IF_ERROR(CheckRange("experts_per_token", o.experts_per_token, 1, o.num_experts));
  const int most_experts = std::max(o.max_experts_per_token, o.experts_per_token);
  MOED_RETURN_IF_ERROR(CheckRange("max_experts_per_token", most_experts, 1, o.num_experts));
  MOED_RETURN_IF_ERROR(CheckRange("vocab", o.vocab, 1, kMost));
  MOED_RETURN_IF_ERROR(CheckRange("first_token_id", o.first_token_id, 0, o.vocab - 1));
  slots_.clear();
  for (int rank = 0; rank < o.num_ranks; ++rank) {
    slots_.emplace_back(RankSlots::Limits{.num_slots = o.max_sequences_per_rank,
                                          .num_kv_blocks = o.num_kv_blocks_per_rank,
                                          .block_size = o.block_size,
                                          .max_positions = o.max_positions,
                                          .vocab = o.vocab,
                                          .experts_per_token = o.experts_per_token,
                                          .max_experts_per_token = most_experts});
    if (progress && !progress({rank, "ready", 1})) {
      return absl::CancelledError("the start was cancelled");
    }
  }
  WorkerGroupInfo info;
  info.num_ranks = o.num_ranks;
  info.num_kv_blocks_per_rank = o.num_kv_blocks_per_rank;
  info.max_sequences_per_rank = o.max_sequences_per_rank;
  info.max_rows_per_step = o.max_rows_per_step;
  info.max_gather_rows = 0;
  info.block_size = o.block_size;
  info.num_layers = o.num_layers;
  info.num_experts = o.num_experts;
  info.experts_per_token = o.experts_per_token;
  info.max_experts_per_token = most_experts;
  info.vocab = o.vocab;
  info.backend = "none: nothing is computed";
  return info;
}

absl::Status NullWorkerGroup::Launch(std::vector<RankBatch> batches) {
  MOED_CHECK(batches.size() == slots_.size(), "a step for another number of ranks");
  launched_ = std::move(batches);
  launched_at_ = std::chrono::steady_clock::now();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RankResult>> NullWorkerGroup::Await() {
  std::vector<RankResult> results;
  results.reserve(launched_.size());
  for (size_t rank = 0; rank < launched_.size(); ++rank) {
    results.push_back(Step(launched_[rank], slots_[rank]));
  }
  if (options_.step_time.count() > 0) {
    std::this_thread::sleep_until(launched_at_ + options_.step_time);
  }
  return results;
}

RankResult NullWorkerGroup::Step(const RankBatch& batch, RankSlots& slots) const {
  MOED_CHECK(batch.num_rows() <= options_.max_rows_per_step, "more rows than a step may have");
  RankResult result;
  result.step = batch.step;
  result.expert_counts.assign(static_cast<size_t>(options_.num_layers) * options_.num_experts, 0);
  result.repetition.same_first.assign(options_.num_layers, 0);
  result.repetition.any_shared.assign(options_.num_layers, 0);
  for (const SlotInit& init : batch.admitted) slots.Admit(init);
  for (const SequenceChunk& chunk : batch.chunks) {
    slots.Extend(batch.step, chunk);
    for (const int32_t slot : chunk.fork_slots) slots.Fork(slot);
  }
  result.samples.reserve(batch.chunks.size());
  for (const SequenceChunk& chunk : batch.chunks) {
    if (!chunk.logprob_targets.empty() || slots.init(chunk.slot).routed_experts) {
      result.reports.push_back(Report(slots, chunk));
    }
    if (!chunk.sample) continue;
    const int64_t position = chunk.start_position + static_cast<int64_t>(chunk.tokens.size());
    result.samples.push_back(Draw(slots, chunk.slot, position, chunk.suppress));
    for (const int32_t slot : chunk.fork_slots) {
      result.samples.push_back(Draw(slots, slot, position, chunk.suppress));
    }
  }
  return result;
}

SampledToken NullWorkerGroup::Draw(RankSlots& slots, int32_t slot, int64_t position,
                                   bool suppress) const {
  const int32_t token_id = DrawId(slots.MakeSamplingRow(slot, position, suppress));
  slots.RecordSampled(slot, token_id);
  return WithAlternatives(slot, token_id, slots.init(slot).num_logprobs);
}

int32_t NullWorkerGroup::DrawId(const SamplingRow& row) const {
  const uint64_t hash = HashOf(row);
  const auto allowed = row.allowed_token_ids;
  const uint64_t num_ids = allowed.empty()
                               ? static_cast<uint64_t>(options_.vocab - options_.first_token_id)
                               : allowed.size();
  const auto id_at = [&](uint64_t index) {
    return allowed.empty() ? options_.first_token_id + static_cast<int32_t>(index) : allowed[index];
  };
  for (uint64_t i = 0; i < num_ids; ++i) {
    const int32_t id = id_at((hash % num_ids + i) % num_ids);
    const auto removed = row.suppressed_token_ids;
    if (std::find(removed.begin(), removed.end(), id) == removed.end()) return id;
  }
  return id_at(0);
}

SampledToken NullWorkerGroup::WithAlternatives(int32_t slot, int32_t token_id,
                                               int32_t num_alternatives) const {
  SampledToken token;
  token.slot = slot;
  token.token_id = token_id;
  for (int32_t id = 0; id < std::min(num_alternatives, options_.vocab); ++id) {
    token.top_logprobs.emplace_back(id, 0.0F);
  }
  return token;
}

ChunkReport NullWorkerGroup::Report(const RankSlots& slots, const SequenceChunk& chunk) const {
  const SlotInit& init = slots.init(chunk.slot);
  ChunkReport report;
  report.slot = chunk.slot;
  report.start_position = chunk.start_position;
  for (const int32_t target : chunk.logprob_targets) {
    report.prompt_logprobs.push_back(
        WithAlternatives(chunk.slot, target, init.num_prompt_logprobs));
  }
  if (!init.routed_experts) return report;
  const int32_t experts_per_token = slots.experts_per_token(chunk.slot);
  const size_t num_choices = chunk.tokens.size() * options_.num_layers * experts_per_token;
  report.routed_experts.reserve(num_choices);
  for (size_t i = 0; i < num_choices; ++i) {
    report.routed_experts.push_back(static_cast<int16_t>(i % experts_per_token));
  }
  return report;
}

}  // namespace moed
