#include "runtime/schedule/scheduler.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"

namespace moed {
namespace {

// What may not be sampled before min_tokens: all that would end the sequence.
std::vector<int32_t> SuppressedTokenIds(const StoppingParams& stopping) {
  if (stopping.min_tokens <= 0) return {};
  std::vector<int32_t> ids = stopping.eos_token_ids;
  ids.insert(ids.end(), stopping.stop_token_ids.begin(), stopping.stop_token_ids.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Whether the token just appended to `sequence` is its last, and why. Before min_tokens it is no
// stop token: those were suppressed.
std::optional<SequenceFinish> FinishOf(const Sequence& sequence) {
  const StoppingParams& stopping = sequence.request.stopping;
  const int32_t token = sequence.generated_token_ids.back();
  if (Contains(stopping.eos_token_ids, token) || Contains(stopping.stop_token_ids, token)) {
    return SequenceFinish{FinishReason::kStop, token};
  }
  if (sequence.num_generated() >= stopping.max_tokens) {
    return SequenceFinish{FinishReason::kLength, -1};
  }
  return std::nullopt;
}

SequenceEnd MakeEnd(const Sequence& sequence, absl::Status status, TimePoint now) {
  SequenceEnd end{sequence.id, std::move(status), std::nullopt, now};
  if (sequence.rank >= 0) end.scheduled_at = sequence.scheduled_at;
  return end;
}

}  // namespace

Scheduler::Rank::Rank(const SchedulerOptions& options) : blocks(options.num_blocks_per_rank) {
  // A decode takes a row in every step, so more sequences than rows would make some of them wait.
  const int32_t num_slots = std::min(options.max_sequences_per_rank, options.token_budget);
  for (int32_t slot = num_slots - 1; slot >= 0; --slot) free_slots.push_back(slot);
}

Scheduler::Scheduler(const SchedulerOptions& options) : options_(options) {
  MOED_CHECK(options.num_ranks >= 1 && options.max_sequences_per_rank >= 1 &&
                 options.token_budget >= 1 && options.block_size >= 1 &&
                 options.num_blocks_per_rank >= 1 && options.max_waiting >= 1,
             "the scheduler's sizes must be positive");
  ranks_.reserve(options.num_ranks);
  for (int rank = 0; rank < options.num_ranks; ++rank) ranks_.emplace_back(options);
}

int32_t Scheduler::num_running() const {
  return static_cast<int32_t>(by_id_.size() - waiting_.size());
}

int64_t Scheduler::BlocksFor(int64_t num_tokens) const {
  return (num_tokens + options_.block_size - 1) / options_.block_size;
}

absl::Status Scheduler::CheckFits(const GenerationRequest& request) const {
  if (request.prompt_token_ids.empty()) {
    return absl::InvalidArgumentError("the prompt has no tokens");
  }
  if (request.stopping.max_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens must be at least 1, not ", request.stopping.max_tokens));
  }
  const int64_t needed = BlocksFor(MaxKvTokens(request));
  if (needed <= options_.num_blocks_per_rank) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a prompt of ", request.prompt_token_ids.size(), " tokens with max_tokens ",
                   request.stopping.max_tokens, " needs ", needed, " KV blocks of ",
                   options_.block_size, " tokens; there are ", options_.num_blocks_per_rank));
}

absl::StatusOr<SequenceId> Scheduler::Submit(GenerationRequest request) {
  absl::Status fits = CheckFits(request);
  if (!fits.ok()) return fits;
  if (num_waiting() >= options_.max_waiting) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", options_.max_waiting, " requests wait"));
  }
  auto sequence = std::make_unique<Sequence>();
  sequence->id = next_id_++;
  sequence->request = std::move(request);
  const SequenceId id = sequence->id;
  by_id_[id] = sequence.get();
  waiting_.push_back(std::move(sequence));
  return id;
}

void Scheduler::End(SequenceId id, const absl::Status& status) {
  MOED_CHECK(!status.ok(), "a sequence is ended without a reason");
  const auto found = by_id_.find(id);
  if (found == by_id_.end() || found->second->end_status.has_value()) return;
  found->second->end_status = status;
}

void Scheduler::EndMarked(TimePoint now, std::vector<SequenceEnd>* ended) {
  // Removes those that end from `sequences`, keeping the order of the others.
  const auto sweep = [&](auto& sequences) {
    const auto ends = [&](std::unique_ptr<Sequence>& sequence) {
      const std::optional<TimePoint>& deadline = sequence->request.deadline;
      if (!sequence->end_status && deadline && *deadline <= now) {
        sequence->end_status = absl::DeadlineExceededError(
            sequence->rank < 0 ? "the deadline passed while the request waited"
                               : "the deadline passed while the request ran");
      }
      if (!sequence->end_status) return false;
      ended->push_back(MakeEnd(*sequence, *sequence->end_status, now));
      by_id_.erase(sequence->id);
      Release(*sequence);
      return true;
    };
    sequences.erase(std::remove_if(sequences.begin(), sequences.end(), ends), sequences.end());
  };
  sweep(waiting_);
  for (Rank& rank : ranks_) sweep(rank.running);
}

void Scheduler::Release(Sequence& sequence) {
  if (sequence.rank < 0) return;
  Rank& rank = ranks_[sequence.rank];
  rank.blocks.Free(sequence.blocks);
  rank.blocks.Unreserve(sequence.num_reserved_blocks);
  rank.free_slots.push_back(sequence.slot);
  std::sort(rank.free_slots.begin(), rank.free_slots.end(), std::greater<>());
}

StepPlan Scheduler::Plan(TimePoint now) {
  MOED_CHECK(!in_flight_, "a step is planned before the last one was committed");
  StepPlan plan;
  EndMarked(now, &plan.ended);
  plan.batches.resize(options_.num_ranks);
  std::vector<int32_t> rows_left(options_.num_ranks, options_.token_budget);
  for (int r = 0; r < options_.num_ranks; ++r) {
    ranks_[r].sampling.clear();
    for (const bool decoding : {true, false}) {
      for (const std::unique_ptr<Sequence>& sequence : ranks_[r].running) {
        if (rows_left[r] == 0) break;
        if (sequence->is_decoding() != decoding) continue;
        rows_left[r] -= AddChunk(*sequence, rows_left[r], &plan.batches[r]);
      }
    }
  }
  Admit(now, absl::MakeSpan(rows_left), &plan);

  std::vector<int32_t> num_rows(options_.num_ranks);
  for (int r = 0; r < options_.num_ranks; ++r) {
    num_rows[r] = options_.token_budget - rows_left[r];
    plan.num_rows += num_rows[r];
  }
  if (plan.num_rows == 0) return plan;
  ++step_;
  in_flight_ = true;
  const ExchangeDecision decision = ChooseExchange(options_.exchange, num_rows);
  for (RankBatch& batch : plan.batches) {
    batch.step = step_;
    batch.exchange = decision.strategy;
    batch.padded_rows = decision.padded_rows;
  }
  return plan;
}

int32_t Scheduler::AddChunk(Sequence& sequence, int32_t rows_left, RankBatch* batch) {
  Rank& rank = ranks_[sequence.rank];
  SequenceChunk chunk;
  chunk.slot = sequence.slot;
  chunk.start_position = sequence.num_computed_tokens;
  if (sequence.is_decoding()) {
    chunk.tokens = {kLastSampledToken};
  } else {
    const std::vector<int32_t>& prompt = sequence.request.prompt_token_ids;
    const auto begin = prompt.begin() + sequence.num_computed_tokens;
    const int32_t count =
        std::min(rows_left, sequence.num_prompt_tokens() - sequence.num_computed_tokens);
    chunk.tokens.assign(begin, begin + count);
  }
  const auto num_rows = static_cast<int32_t>(chunk.tokens.size());
  sequence.num_computed_tokens += num_rows;
  const int64_t num_blocks = BlocksFor(sequence.num_computed_tokens);
  while (static_cast<int64_t>(sequence.blocks.size()) < num_blocks) {
    chunk.new_blocks.push_back(rank.blocks.AllocateReserved());
    sequence.blocks.push_back(chunk.new_blocks.back());
    --sequence.num_reserved_blocks;
  }
  if (sequence.is_decoding()) {
    chunk.sample = true;
    chunk.suppress = sequence.num_generated() < sequence.request.stopping.min_tokens;
    rank.sampling.push_back(&sequence);
  }
  batch->chunks.push_back(std::move(chunk));
  return num_rows;
}

int Scheduler::ChooseHomeRank(const Sequence& sequence, absl::Span<const int32_t> rows_left) const {
  const int64_t needed = BlocksFor(MaxKvTokens(sequence.request));
  int best = -1;
  std::tuple<size_t, int64_t> best_cost;
  for (int r = 0; r < options_.num_ranks; ++r) {
    const Rank& rank = ranks_[r];
    const int64_t available = rank.blocks.num_available();
    if (rank.free_slots.empty() || rows_left[r] == 0 || available < needed) continue;
    const std::tuple<size_t, int64_t> cost = {rank.running.size(), -available};
    if (best < 0 || cost < best_cost) {
      best = r;
      best_cost = cost;
    }
  }
  return best;
}

void Scheduler::Admit(TimePoint now, absl::Span<int32_t> rows_left, StepPlan* plan) {
  while (!waiting_.empty()) {
    const int home = ChooseHomeRank(*waiting_.front(), rows_left);
    if (home < 0) return;
    std::unique_ptr<Sequence> sequence = std::move(waiting_.front());
    waiting_.pop_front();
    Rank& rank = ranks_[home];
    sequence->rank = home;
    sequence->slot = rank.free_slots.back();
    rank.free_slots.pop_back();
    sequence->scheduled_at = now;
    sequence->num_reserved_blocks = BlocksFor(MaxKvTokens(sequence->request));
    MOED_CHECK(rank.blocks.Reserve(sequence->num_reserved_blocks), "the home rank lost its blocks");
    plan->batches[home].admitted.push_back(MakeSlotInit(*sequence));
    rows_left[home] -= AddChunk(*sequence, rows_left[home], &plan->batches[home]);
    rank.running.push_back(std::move(sequence));
  }
}

SlotInit Scheduler::MakeSlotInit(const Sequence& sequence) const {
  const SamplingParams& sampling = sequence.request.sampling;
  SlotInit init;
  init.slot = sequence.slot;
  init.temperature = sampling.temperature;
  init.top_k = sampling.top_k;
  init.top_p = sampling.top_p;
  init.min_p = sampling.min_p;
  init.seed = sampling.seed;
  init.num_logprobs = sequence.request.response.num_logprobs;
  init.suppressed_token_ids = SuppressedTokenIds(sequence.request.stopping);
  return init;
}

absl::Status Scheduler::CheckResults(absl::Span<const RankResult> results) const {
  if (results.size() != ranks_.size()) {
    return absl::InternalError(
        absl::StrCat(results.size(), " ranks answered step ", step_, ", of ", ranks_.size()));
  }
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const std::vector<Sequence*>& sampling = ranks_[r].sampling;
    const std::vector<SampledToken>& samples = results[r].samples;
    if (results[r].step != step_ || samples.size() != sampling.size()) {
      return absl::InternalError(absl::StrCat("rank ", r, " answered step ", results[r].step,
                                              " with ", samples.size(), " tokens; expected step ",
                                              step_, " with ", sampling.size()));
    }
    for (size_t i = 0; i < samples.size(); ++i) {
      if (samples[i].slot == sampling[i]->slot) continue;
      return absl::InternalError(absl::StrCat("rank ", r, " sampled in slot ", samples[i].slot,
                                              " in step ", step_, "; expected slot ",
                                              sampling[i]->slot));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SequenceToken>> Scheduler::Commit(absl::Span<const RankResult> results,
                                                             TimePoint now) {
  MOED_CHECK(in_flight_, "a step is committed that was not planned");
  absl::Status fits = CheckResults(results);
  if (!fits.ok()) return fits;
  in_flight_ = false;
  std::vector<SequenceToken> tokens;
  for (size_t r = 0; r < ranks_.size(); ++r) {
    Rank& rank = ranks_[r];
    for (size_t i = 0; i < rank.sampling.size(); ++i) {
      Sequence& sequence = *rank.sampling[i];
      if (sequence.end_status) continue;
      const SampledToken& sample = results[r].samples[i];
      sequence.generated_token_ids.push_back(sample.token_id);
      tokens.push_back({sequence.id, sample, sequence.scheduled_at, now, FinishOf(sequence)});
      if (!tokens.back().finish) continue;
      by_id_.erase(sequence.id);
      Release(sequence);
      sequence.is_finished = true;
    }
    rank.sampling.clear();
    std::erase_if(rank.running, [](const auto& sequence) { return sequence->is_finished; });
  }
  return tokens;
}

std::vector<SequenceEnd> Scheduler::EndAll(const absl::Status& status, TimePoint now) {
  in_flight_ = false;
  for (const auto& [id, sequence] : by_id_) End(id, status);
  std::vector<SequenceEnd> ended;
  EndMarked(now, &ended);
  for (Rank& rank : ranks_) rank.sampling.clear();
  return ended;
}

}  // namespace moed
