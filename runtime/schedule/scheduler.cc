#include "runtime/schedule/scheduler.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Whether the token just appended to `sequence` is its last, and why. Before min_tokens it is no
// stop token: those were suppressed.
std::optional<SequenceFinish> FinishOf(const Sequence& sequence) {
  const StoppingParams& stopping = sequence.owner->request.stopping;
  const int32_t token = sequence.generated_token_ids.back();
  if (Contains(stopping.eos_token_ids, token) || Contains(stopping.stop_token_ids, token)) {
    return SequenceFinish{FinishReason::kStop, token};
  }
  if (sequence.num_generated() >= stopping.max_tokens) {
    return SequenceFinish{FinishReason::kLength, -1};
  }
  return std::nullopt;
}

// Takes the first `count` entries off, or all.
template <typename T>
void DropFront(int64_t count, std::vector<T>* values) {
  const auto size = static_cast<int64_t>(values->size());
  values->erase(values->begin(), values->begin() + std::min(count, size));
}

}  // namespace

bool Scheduler::ServedEarlier::operator()(const Sequence* a, const Sequence* b) const {
  return std::tie(a->owner->serve_at, a->owner->id, a->choice) <
         std::tie(b->owner->serve_at, b->owner->id, b->choice);
}

Scheduler::Rank::Rank(const SchedulerOptions& options) : blocks(options.num_blocks_per_rank) {
  // A decode takes a row in every step, so more sequences than rows would make some of them wait.
  const int32_t num_slots = std::min(options.max_sequences_per_rank, options.token_budget);
  for (int32_t slot = 0; slot < num_slots; ++slot) free_slots.insert(slot);
}

Scheduler::Scheduler(const SchedulerOptions& options) : options_(options) {
  MOED_CHECK(options.num_ranks >= 1 && options.max_sequences_per_rank >= 1 &&
                 options.token_budget >= 1 && options.block_size >= 1 &&
                 options.num_blocks_per_rank >= 1 && options.max_waiting >= 1,
             "the scheduler's sizes must be positive");
  MOED_CHECK(options.ageing >= options.ageing.zero(), "the ageing must not be negative");
  ranks_.reserve(options.num_ranks);
  for (int rank = 0; rank < options.num_ranks; ++rank) ranks_.emplace_back(options);
}

Scheduler::~Scheduler() = default;

int32_t Scheduler::num_running() const {
  size_t count = 0;
  for (const Rank& rank : ranks_) count += rank.running.size();
  return static_cast<int32_t>(count);
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
  const std::optional<int>& home = request.scheduling.home_rank;
  if (home.has_value() && (*home < 0 || *home >= options_.num_ranks)) {
    return absl::InvalidArgumentError(
        absl::StrCat("home_rank must be in [0, ", options_.num_ranks, "), not ", *home));
  }
  const int32_t num_slots = std::min(options_.max_sequences_per_rank, options_.token_budget);
  if (request.sampling.n < 1 || request.sampling.n > num_slots) {
    return absl::InvalidArgumentError(absl::StrCat("n must be in [1, ", num_slots,
                                                   "], the sequences that a rank serves at once; "
                                                   "not ",
                                                   request.sampling.n));
  }
  const int64_t needed = BlocksFor(MaxKvTokens(request));
  if (needed <= options_.num_blocks_per_rank) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a prompt of ", request.prompt_token_ids.size(), " tokens with max_tokens ",
                   request.stopping.max_tokens, " needs ", needed, " KV blocks of ",
                   options_.block_size, " tokens; there are ", options_.num_blocks_per_rank));
}

absl::StatusOr<SequenceId> Scheduler::Submit(GenerationRequest request, TimePoint now) {
  MOED_RETURN_IF_ERROR(CheckFits(request));
  if (num_waiting() >= options_.max_waiting) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", options_.max_waiting, " requests wait"));
  }
  auto owner = std::make_unique<ScheduledRequest>();
  owner->id = next_id_++;
  owner->request = std::move(request);
  owner->submitted_at = now;
  owner->serve_at = now - owner->request.scheduling.priority * options_.ageing;
  if (owner->request.stopping.time_limit.has_value()) {
    owner->time_limit_at = now + *owner->request.stopping.time_limit;
  }
  owner->num_live = owner->request.sampling.n;
  owner->choices.resize(static_cast<size_t>(owner->num_live));
  owner->choices[0] = std::make_unique<Sequence>();
  owner->choices[0]->owner = owner.get();
  waiting_.insert(owner->choices[0].get());
  const SequenceId id = owner->id;
  requests_[id] = std::move(owner);
  return id;
}

void Scheduler::End(SequenceId id, const absl::Status& status) {
  MOED_CHECK(!status.ok(), "a request is ended without a reason");
  const auto found = requests_.find(id);
  if (found == requests_.end() || found->second->end_status.has_value()) return;
  found->second->end_status = status;
}

void Scheduler::EndChoice(SequenceId id, int32_t choice) {
  Sequence* sequence = Find(id, choice);
  if (sequence != nullptr) Remove(*sequence);
}

Sequence* Scheduler::Find(SequenceId id, int32_t choice) {
  const auto found = requests_.find(id);
  if (found == requests_.end() || found->second->end_status.has_value()) return nullptr;
  return found->second->choices[static_cast<size_t>(choice)].get();
}

void Scheduler::Sweep(TimePoint now, StepPlan* plan) {
  for (auto it = requests_.begin(); it != requests_.end();) {
    ScheduledRequest& owner = *(it++)->second;
    const std::optional<TimePoint>& deadline = owner.request.deadline;
    if (!owner.end_status && deadline && *deadline <= now) {
      owner.end_status = absl::DeadlineExceededError(
          owner.scheduled_at ? "the deadline passed while the request ran"
                             : "the deadline passed while the request waited");
    }
    if (owner.end_status) {
      plan->ended.push_back({owner.id, *owner.end_status, owner.scheduled_at, now});
    } else if (owner.time_limit_at && *owner.time_limit_at <= now) {
      for (int32_t choice = 0; choice < owner.request.sampling.n; ++choice) {
        const Sequence* sequence = owner.choices[static_cast<size_t>(choice)].get();
        // Before the split there is one sequence for all.
        if (sequence == nullptr && owner.is_split) continue;
        if (sequence == nullptr) sequence = owner.choices[0].get();
        plan->timeouts.push_back({owner.id, choice, owner.scheduled_at, now, sequence->usage});
      }
    } else {
      continue;
    }
    RemoveRequest(owner);
  }
}

void Scheduler::LeaveRank(Sequence& sequence) {
  Rank& rank = ranks_[sequence.rank];
  rank.running.erase(&sequence);
  rank.blocks.Release(sequence.blocks);
  rank.free_slots.insert(sequence.slot);
  rank.free_slots.insert(sequence.fork_slots.begin(), sequence.fork_slots.end());
  sequence.rank = -1;
  sequence.slot = -1;
  sequence.blocks.clear();
  sequence.fork_slots.clear();
  sequence.num_sent_blocks = 0;
  sequence.num_computed_tokens = 0;
  sequence.prefill_target = 0;
  sequence.num_published_blocks = 0;
  sequence.must_copy_last_block = false;
}

void Scheduler::Remove(Sequence& sequence) {
  if (sequence.is_running()) {
    LeaveRank(sequence);
  } else {
    waiting_.erase(&sequence);
  }
  ScheduledRequest& owner = *sequence.owner;
  owner.choices[static_cast<size_t>(sequence.choice)].reset();
  if (--owner.num_live == 0) requests_.erase(owner.id);
}

void Scheduler::RemoveRequest(ScheduledRequest& owner) {
  for (const std::unique_ptr<Sequence>& sequence : owner.choices) {
    if (sequence == nullptr) continue;
    if (sequence->is_running()) {
      LeaveRank(*sequence);
    } else {
      waiting_.erase(sequence.get());
    }
  }
  requests_.erase(owner.id);
}

void Scheduler::Preempt(Sequence& sequence) {
  sequence.num_lost_tokens = sequence.num_computed_tokens;
  LeaveRank(sequence);
  waiting_.insert(&sequence);
  ++sequence.usage.num_preemptions;
  ++counters_.preemptions;
}

bool Scheduler::MayCache(const ScheduledRequest& owner) const {
  return options_.prefix_cache && !owner.request.cache.bypass;
}

void Scheduler::ExtendHashes(int64_t num_blocks, Sequence* sequence) const {
  const GenerationRequest& request = sequence->owner->request;
  const int32_t experts_per_token =
      request.experts_per_token > 0 ? request.experts_per_token : options_.experts_per_token;
  std::vector<int32_t> tokens(static_cast<size_t>(options_.block_size));
  while (static_cast<int64_t>(sequence->hashes.size()) < num_blocks) {
    const auto first = static_cast<int32_t>(sequence->hashes.size()) * options_.block_size;
    for (int32_t i = 0; i < options_.block_size; ++i) tokens[i] = sequence->token(first + i);
    const BlockHash parent = sequence->hashes.empty()
                                 ? RootHash(experts_per_token, request.cache.salt)
                                 : sequence->hashes.back();
    sequence->hashes.push_back(NextHash(parent, tokens));
  }
}

void Scheduler::Publish(Sequence& sequence) {
  if (!MayCache(*sequence.owner)) return;
  const int64_t num_full =
      std::min(sequence.num_computed_tokens, sequence.num_known_tokens()) / options_.block_size;
  if (num_full <= sequence.num_published_blocks) return;
  ExtendHashes(num_full, &sequence);
  BlockPool& pool = ranks_[sequence.rank].blocks;
  for (int64_t& i = sequence.num_published_blocks; i < num_full; ++i) {
    pool.Publish(sequence.blocks[static_cast<size_t>(i)], sequence.hashes[static_cast<size_t>(i)]);
  }
}

absl::Status Scheduler::CheckResults(const InFlight& plan,
                                     absl::Span<const RankResult> results) const {
  if (results.size() != ranks_.size()) {
    return absl::InternalError(
        absl::StrCat(results.size(), " ranks answered step ", plan.step, ", of ", ranks_.size()));
  }
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const std::vector<PlannedSample>& wanted = plan.ranks[r].samples;
    const std::vector<SampledToken>& samples = results[r].samples;
    if (results[r].step != plan.step || samples.size() != wanted.size()) {
      return absl::InternalError(absl::StrCat("rank ", r, " answered step ", results[r].step,
                                              " with ", samples.size(), " tokens; expected step ",
                                              plan.step, " with ", wanted.size()));
    }
    for (size_t i = 0; i < samples.size(); ++i) {
      if (samples[i].slot == wanted[i].slot) continue;
      return absl::InternalError(absl::StrCat("rank ", r, " sampled in slot ", samples[i].slot,
                                              " in step ", plan.step, "; expected slot ",
                                              wanted[i].slot));
    }
    size_t chunk = 0;
    for (const ChunkReport& report : results[r].reports) {
      const std::vector<PlannedChunk>& chunks = plan.ranks[r].chunks;
      while (chunk < chunks.size() && (chunks[chunk].slot != report.slot ||
                                       chunks[chunk].start_position != report.start_position)) {
        ++chunk;
      }
      if (chunk++ < chunks.size()) continue;
      return absl::InternalError(absl::StrCat("rank ", r, " reported on slot ", report.slot,
                                              " from position ", report.start_position, " in step ",
                                              plan.step, ", which has no such chunk there"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<StepOutput> Scheduler::Commit(absl::Span<const RankResult> results, TimePoint now) {
  MOED_CHECK(!in_flight_.empty(), "a step is committed that was not planned");
  MOED_RETURN_IF_ERROR(CheckResults(in_flight_.front(), results));
  const InFlight plan = std::move(in_flight_.front());
  in_flight_.pop_front();
  ++counters_.steps;
  StepOutput output;
  for (size_t r = 0; r < ranks_.size(); ++r) {
    counters_.dropped_pairs += results[r].dropped_pairs;
    CommitReports(plan.ranks[r], results[r], &output);
    CommitSamples(plan.ranks[r], results[r], now, &output);
  }
  return output;
}

void Scheduler::CommitReports(const RankPlan& plan, const RankResult& result, StepOutput* output) {
  auto chunk = plan.chunks.begin();
  for (const ChunkReport& report : result.reports) {
    while (chunk->slot != report.slot) ++chunk;
    Sequence* sequence = Find(chunk->id, chunk->choice);
    if (sequence == nullptr) continue;
    sequence->usage.dropped_pairs += report.dropped_pairs;
    // What was told before a preemption is not told again.
    const int32_t num_told =
        std::clamp(sequence->num_reported_tokens - chunk->start_position, 0, chunk->num_tokens);
    SequenceReport told{chunk->id, chunk->choice, report};
    told.report.start_position += num_told;
    DropFront(num_told, &told.report.prompt_logprobs);
    const auto experts_per_row =
        static_cast<int64_t>(report.routed_experts.size()) / chunk->num_tokens;
    DropFront(num_told * experts_per_row, &told.report.routed_experts);
    sequence->num_reported_tokens =
        std::max(sequence->num_reported_tokens, chunk->start_position + chunk->num_tokens);
    if (told.report.prompt_logprobs.empty() && told.report.routed_experts.empty()) continue;
    output->reports.push_back(std::move(told));
  }
}

void Scheduler::CommitSamples(const RankPlan& plan, const RankResult& result, TimePoint now,
                              StepOutput* output) {
  for (size_t i = 0; i < plan.samples.size(); ++i) {
    Sequence* sequence = Find(plan.samples[i].id, plan.samples[i].choice);
    if (sequence == nullptr) continue;
    const SampledToken& sample = result.samples[i];
    --sequence->num_in_flight;
    sequence->generated_token_ids.push_back(sample.token_id);
    SequenceToken token;
    token.id = plan.samples[i].id;
    token.choice = plan.samples[i].choice;
    token.sample = sample;
    token.scheduled_at = *sequence->owner->scheduled_at;
    token.sampled_at = now;
    token.finish = FinishOf(*sequence);
    token.usage = sequence->usage;
    if (sequence->is_running()) Publish(*sequence);
    if (token.finish) Remove(*sequence);
    output->tokens.push_back(std::move(token));
  }
}

std::vector<SequenceEnd> Scheduler::EndAll(const absl::Status& status, TimePoint now) {
  in_flight_.clear();
  for (const auto& [id, owner] : requests_) End(id, status);
  StepPlan plan;
  Sweep(now, &plan);
  return std::move(plan.ended);
}

}  // namespace moed
