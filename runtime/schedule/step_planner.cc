#include "runtime/schedule/step_planner.h"

#include <algorithm>
#include <tuple>
#include <utility>

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

}  // namespace

StepPlan Scheduler::Plan(TimePoint now) {
  MOED_CHECK(num_uncommitted() < kMaxUncommittedPlans,
             "a step is planned before those planned were committed");
  StepPlan plan;
  Sweep(now, &plan);
  StepPlanner(*this, now).Fill(&plan);
  return plan;
}

Scheduler::StepPlanner::StepPlanner(Scheduler& scheduler, TimePoint now)
    : scheduler_(scheduler),
      options_(scheduler.options_),
      now_(now),
      rows_left_(scheduler.ranks_.size(), options_.token_budget),
      is_blocked_(scheduler.ranks_.size(), false),
      batches_(scheduler.ranks_.size()) {
  in_flight_.ranks.resize(scheduler.ranks_.size());
}

void Scheduler::StepPlanner::Fill(StepPlan* plan) {
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    PlanDecodes(rank);
    PlanPrefills(rank);
  }
  Admit();

  std::vector<int32_t> num_rows(rows_left_.size());
  for (size_t rank = 0; rank < num_rows.size(); ++rank) {
    num_rows[rank] = options_.token_budget - rows_left_[rank];
    plan->num_rows += num_rows[rank];
  }
  if (plan->num_rows > 0) {
    in_flight_.step = ++scheduler_.step_;
    const ExchangeDecision decision = ChooseExchange(options_.exchange, num_rows);
    for (RankBatch& batch : batches_) {
      batch.step = in_flight_.step;
      batch.exchange = decision.strategy;
      batch.padded_rows = decision.padded_rows;
    }
    scheduler_.in_flight_.push_back(std::move(in_flight_));
  }
  plan->batches = std::move(batches_);
  // Last, so that no block is shared in the step that fills it.
  for (Sequence* sequence : prefilled_) scheduler_.Publish(*sequence);
}

void Scheduler::StepPlanner::PlanDecodes(int rank) {
  const auto& running = scheduler_.ranks_[rank].running;
  // Some may be preempted on the way, always behind the one whose turn it is.
  const std::vector<Sequence*> in_order(running.begin(), running.end());
  for (Sequence* sequence : in_order) {
    if (!sequence->is_running() || sequence->is_prefilling()) continue;
    // Only what has not been committed can tell whether it goes on.
    if (sequence->num_drawn() >= sequence->owner->request.stopping.max_tokens) continue;
    if (MakeRoom(*sequence)) AddDecode(*sequence);
  }
}

void Scheduler::StepPlanner::PlanPrefills(int rank) {
  for (Sequence* sequence : scheduler_.ranks_[rank].running) {
    if (rows_left_[rank] == 0) return;
    if (sequence->is_prefilling()) AddPrefill(*sequence);
  }
}

bool Scheduler::StepPlanner::MakeRoom(Sequence& sequence) {
  Rank& rank = scheduler_.ranks_[sequence.rank];
  const int64_t needed = scheduler_.BlocksFor(sequence.num_computed_tokens + 1);
  std::optional<int32_t> block;
  while (true) {
    // The last to hold a shared block need not copy it; others may just have given way.
    if (sequence.must_copy_last_block && rank.blocks.num_users(sequence.blocks.back()) == 1) {
      sequence.must_copy_last_block = false;
    }
    const bool needs_block = static_cast<int64_t>(sequence.blocks.size()) < needed;
    if (!needs_block && !sequence.must_copy_last_block) return true;
    block = rank.blocks.Allocate();
    if (block.has_value()) break;
    Sequence& last = **rank.running.rbegin();
    scheduler_.Preempt(last);
    if (&last == &sequence) return false;
  }
  if (sequence.must_copy_last_block) {
    const int32_t shared = std::exchange(sequence.blocks.back(), *block);
    batches_[sequence.rank].block_copies.push_back({shared, *block});
    rank.blocks.Release({shared});
    sequence.must_copy_last_block = false;
  } else {
    sequence.blocks.push_back(*block);
  }
  return true;
}

void Scheduler::StepPlanner::AddDecode(Sequence& sequence) {
  SequenceChunk chunk;
  chunk.tokens = {kLastSampledToken};
  chunk.start_position = sequence.num_computed_tokens++;
  AddSample(sequence, &chunk);
  AddChunk(sequence, std::move(chunk));
}

void Scheduler::StepPlanner::AddPrefill(Sequence& sequence) {
  SequenceChunk chunk;
  chunk.start_position = sequence.num_computed_tokens;
  const int32_t end =
      std::min(chunk.start_position + rows_left_[sequence.rank], sequence.prefill_target);
  const bool wants_logprobs = sequence.choice == 0 &&
                              sequence.owner->request.response.num_prompt_logprobs >= 0 &&
                              sequence.num_reported_tokens < sequence.num_prompt_tokens();
  for (int32_t position = chunk.start_position; position < end; ++position) {
    chunk.tokens.push_back(sequence.token(position));
    if (wants_logprobs && position + 1 < sequence.num_prompt_tokens()) {
      chunk.logprob_targets.push_back(sequence.token(position + 1));
    }
  }
  sequence.num_computed_tokens = end;
  prefilled_.push_back(&sequence);
  if (!sequence.is_prefilling()) AddSample(sequence, &chunk);
  AddChunk(sequence, std::move(chunk));
}

void Scheduler::StepPlanner::AddSample(Sequence& sequence, SequenceChunk* chunk) {
  ScheduledRequest& owner = *sequence.owner;
  chunk->sample = true;
  chunk->suppress = sequence.num_drawn() < owner.request.stopping.min_tokens;
  ++sequence.num_in_flight;
  in_flight_.ranks[sequence.rank].samples.push_back({owner.id, sequence.choice, sequence.slot});
  if (!owner.is_split) Split(sequence, chunk);
}

void Scheduler::StepPlanner::Split(Sequence& first, SequenceChunk* chunk) {
  ScheduledRequest& owner = *first.owner;
  owner.is_split = true;
  Rank& rank = scheduler_.ranks_[first.rank];
  for (size_t i = 0; i < first.fork_slots.size(); ++i) {
    auto fork = std::make_unique<Sequence>(first);
    fork->choice = static_cast<int32_t>(i) + 1;
    fork->slot = first.fork_slots[i];
    fork->fork_slots.clear();
    fork->num_sent_blocks = 0;
    fork->must_copy_last_block = first.num_computed_tokens % options_.block_size != 0;
    fork->num_published_blocks = first.num_computed_tokens / options_.block_size;
    fork->num_reported_tokens = first.num_prompt_tokens();
    for (const int32_t block : fork->blocks) rank.blocks.Share(block);
    chunk->fork_slots.push_back(fork->slot);
    batches_[fork->rank].admitted.push_back(MakeSlotInit(*fork));
    in_flight_.ranks[fork->rank].samples.push_back({owner.id, fork->choice, fork->slot});
    rank.running.insert(fork.get());
    owner.choices[i + 1] = std::move(fork);
  }
  first.fork_slots.clear();
}

void Scheduler::StepPlanner::AddChunk(Sequence& sequence, SequenceChunk chunk) {
  const auto num_tokens = static_cast<int32_t>(chunk.tokens.size());
  chunk.slot = sequence.slot;
  chunk.new_blocks.assign(sequence.blocks.begin() + sequence.num_sent_blocks,
                          sequence.blocks.end());
  sequence.num_sent_blocks = static_cast<int32_t>(sequence.blocks.size());
  in_flight_.ranks[sequence.rank].chunks.push_back(
      {sequence.owner->id, sequence.choice, chunk.slot, chunk.start_position, num_tokens});
  rows_left_[sequence.rank] -= num_tokens;
  batches_[sequence.rank].chunks.push_back(std::move(chunk));
}

void Scheduler::StepPlanner::Admit() {
  const std::vector<Sequence*> in_order(scheduler_.waiting_.begin(), scheduler_.waiting_.end());
  for (Sequence* sequence : in_order) {
    if (std::all_of(is_blocked_.begin(), is_blocked_.end(), [](bool b) { return b; })) return;
    std::optional<Home> home;
    // One that was preempted in this very step does not know its last token yet.
    if (sequence->num_in_flight == 0) {
      if (MayTakeCached(*sequence)) scheduler_.ExtendHashes(MostCached(*sequence), sequence);
      home = ChooseHome(*sequence);
    }
    if (home.has_value() && rows_left_[home->rank] > 0) {
      AdmitTo(*std::move(home), *sequence);
    } else if (home.has_value()) {
      is_blocked_[home->rank] = true;
    } else if (sequence->owner->request.scheduling.home_rank.has_value()) {
      is_blocked_[*sequence->owner->request.scheduling.home_rank] = true;
    } else {
      return;
    }
  }
}

std::optional<Scheduler::StepPlanner::Home> Scheduler::StepPlanner::ChooseHome(
    const Sequence& sequence) const {
  const std::optional<int>& wanted = sequence.owner->request.scheduling.home_rank;
  size_t least_running = scheduler_.ranks_[0].running.size();
  for (const Rank& rank : scheduler_.ranks_) {
    least_running = std::min(least_running, rank.running.size());
  }
  std::optional<Home> best;
  std::tuple<bool, int64_t, size_t, int64_t> best_cost;
  for (int r = 0; r < options_.num_ranks; ++r) {
    if (is_blocked_[r] || (wanted.has_value() && *wanted != r)) continue;
    const Rank& rank = scheduler_.ranks_[r];
    Home home{r, FindCachedBlocks(sequence, r)};
    if (!HasRoom(sequence, home)) continue;
    const bool is_loaded = rank.running.size() > least_running + kLoadSlack;
    const int64_t num_cached = static_cast<int64_t>(home.cached_blocks.size());
    const int64_t num_rows = NumPromptRows(rank) - num_cached * options_.block_size;
    const std::tuple<bool, int64_t, size_t, int64_t> cost = {
        is_loaded, num_rows, rank.running.size(), -rank.blocks.num_free()};
    if (best.has_value() && cost >= best_cost) continue;
    best = std::move(home);
    best_cost = cost;
  }
  return best;
}

int64_t Scheduler::StepPlanner::NumPromptRows(const Rank& rank) {
  int64_t num_rows = 0;
  for (const Sequence* sequence : rank.running) {
    num_rows += std::max(0, sequence->prefill_target - sequence->num_computed_tokens);
  }
  return num_rows;
}

bool Scheduler::StepPlanner::MayTakeCached(const Sequence& sequence) const {
  const ScheduledRequest& owner = *sequence.owner;
  return scheduler_.MayCache(owner) && !owner.request.needs_every_position();
}

int64_t Scheduler::StepPlanner::MostCached(const Sequence& sequence) const {
  return (sequence.num_known_tokens() - 1) / options_.block_size;
}

std::vector<int32_t> Scheduler::StepPlanner::FindCachedBlocks(const Sequence& sequence,
                                                              int rank) const {
  std::vector<int32_t> found;
  if (!MayTakeCached(sequence)) return found;
  for (int64_t i = 0; i < MostCached(sequence); ++i) {
    const std::optional<int32_t> block =
        scheduler_.ranks_[rank].blocks.Find(sequence.hashes[static_cast<size_t>(i)]);
    if (!block.has_value()) break;
    found.push_back(*block);
  }
  return found;
}

bool Scheduler::StepPlanner::HasRoom(const Sequence& sequence, const Home& home) const {
  const Rank& rank = scheduler_.ranks_[home.rank];
  const int32_t num_slots = sequence.owner->is_split ? 1 : sequence.owner->request.sampling.n;
  if (static_cast<int32_t>(rank.free_slots.size()) < num_slots) return false;
  const auto is_decoding = [](const Sequence* other) { return !other->is_prefilling(); };
  if (std::count_if(rank.running.begin(), rank.running.end(), is_decoding) >=
      options_.token_budget) {
    return false;
  }
  // Cached blocks that nobody uses are free until they are taken.
  int64_t needed = scheduler_.BlocksFor(sequence.num_known_tokens());
  for (const int32_t block : home.cached_blocks) {
    if (rank.blocks.num_users(block) > 0) --needed;
  }
  if (!rank.running.empty()) needed += static_cast<int64_t>(rank.running.size()) + num_slots - 1;
  return needed <= rank.blocks.num_free();
}

void Scheduler::StepPlanner::AdmitTo(Home home, Sequence& sequence) {
  ScheduledRequest& owner = *sequence.owner;
  Rank& rank = scheduler_.ranks_[home.rank];
  scheduler_.waiting_.erase(&sequence);
  const auto take_slot = [&rank] {
    return rank.free_slots.extract(rank.free_slots.begin()).value();
  };
  sequence.rank = home.rank;
  sequence.slot = take_slot();
  if (!owner.is_split) {
    for (int32_t i = 1; i < owner.request.sampling.n; ++i) {
      sequence.fork_slots.push_back(take_slot());
    }
  }
  const auto num_cached = static_cast<int32_t>(home.cached_blocks.size());
  sequence.num_computed_tokens = num_cached * options_.block_size;
  sequence.num_published_blocks = num_cached;
  sequence.prefill_target = sequence.num_known_tokens();
  for (const int32_t block : home.cached_blocks) rank.blocks.Share(block);
  sequence.blocks = std::move(home.cached_blocks);
  const int64_t num_blocks = scheduler_.BlocksFor(sequence.prefill_target);
  while (static_cast<int64_t>(sequence.blocks.size()) < num_blocks) {
    const std::optional<int32_t> block = rank.blocks.Allocate();
    MOED_CHECK(block.has_value(), "the home rank lost its blocks");
    sequence.blocks.push_back(*block);
  }
  SchedulerCounters& counters = scheduler_.counters_;
  if (owner.scheduled_at.has_value()) {
    const int32_t num_lost = std::min(sequence.num_lost_tokens, sequence.prefill_target);
    counters.recomputed_tokens += std::max(0, num_lost - sequence.num_computed_tokens);
  } else {
    owner.scheduled_at = now_;
    sequence.usage.cached_tokens = sequence.num_computed_tokens;
    counters.prompt_tokens += sequence.num_prompt_tokens();
    counters.cached_tokens += sequence.num_computed_tokens;
  }
  rank.running.insert(&sequence);
  batches_[home.rank].admitted.push_back(MakeSlotInit(sequence));
  AddPrefill(sequence);
}

SlotInit Scheduler::StepPlanner::MakeSlotInit(const Sequence& sequence) const {
  const GenerationRequest& request = sequence.owner->request;
  SlotInit init;
  init.slot = sequence.slot;
  init.sampling = request.sampling;
  init.choice_index = static_cast<uint32_t>(sequence.choice);
  init.num_logprobs = request.response.num_logprobs;
  if (sequence.choice == 0) init.num_prompt_logprobs = request.response.num_prompt_logprobs;
  init.routed_experts = request.response.routed_experts;
  init.experts_per_token = request.experts_per_token;
  init.suppressed_token_ids = SuppressedTokenIds(request.stopping);
  if (NeedsHistory(request.sampling)) {
    init.prompt_token_ids = request.prompt_token_ids;
    init.generated_token_ids = sequence.generated_token_ids;
  }
  return init;
}

}  // namespace moed
