// What a plan must be.
#include <algorithm>
#include <map>
#include <set>

#include "tests/simulation/schedule_ledger.h"

namespace moed {

void ScheduleLedger::Planned(const StepPlan& plan, TimePoint now) {
  ran_before_.clear();
  admitted_.clear();
  num_preempted_now_ = 0;
  CheckEnded(plan, now);
  CheckShape(plan);
  if (!violation_.empty()) return;
  ForEachLive([&](const Request& request, const Choice& choice) {
    if (choice.rank < 0 || choice.may_wait) return;
    ran_before_.push_back({NameOf(request, choice), choice.rank});
  });
  Step step;
  step.samples.resize(options_.num_ranks);
  step.num_pairs_per_layer.resize(options_.num_ranks);
  std::set<std::pair<int, int32_t>> with_chunk;
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    TakeAdmissions(rank, plan.batches[rank]);
    for (const BlockCopy& copy : plan.batches[rank].block_copies) {
      domains_[rank][copy.to] = domains_[rank][copy.from];
      ++counts_[Happening::kBlockCopy];
    }
    for (const SequenceChunk& chunk : plan.batches[rank].chunks) {
      with_chunk.insert({rank, chunk.slot});
      TakeChunk(rank, chunk, &step);
      if (!violation_.empty()) return;
    }
  }
  // Whoever decodes has a row in every step: without one it was preempted.
  std::vector<Choice*> unseen;
  for (const auto& [name, rank] : ran_before_) {
    Choice* choice = FindChoice(name);
    if (choice->rank != rank || with_chunk.count({rank, choice->slot}) > 0) continue;
    // Nor does one that has drawn all it may, and waits for the commit only.
    const bool is_through = choice->num_drawn >= Find(name.id)->request.stopping.max_tokens;
    if (!choice->is_decoding || is_through) {
      unseen.push_back(choice);
      continue;
    }
    Leave(choice);
    ++choice->num_preemptions;
    ++num_preempted_now_;
  }
  const int64_t num_preempted = scheduler_.counters().preemptions - num_preemptions_;
  num_preemptions_ += num_preempted;
  counts_[Happening::kPreemption] += num_preempted;
  Require(num_preempted_now_ <= num_preempted, num_preempted_now_,
          " continuations lost their place, and ", num_preempted, " were preempted");
  if (num_preempted > num_preempted_now_) {
    for (Choice* choice : unseen) choice->may_wait = true;
  }
  ResolveWaiting();
  CheckOrder(plan);
  CheckProgress(plan);
  CheckState();
  if (plan.num_rows > 0) in_flight_.push_back(std::move(step));
  const auto num_uncommitted = static_cast<int>(in_flight_.size());
  Require(num_uncommitted <= Scheduler::kMaxUncommittedPlans &&
              scheduler_.num_uncommitted() == num_uncommitted,
          num_uncommitted, " plans are uncommitted, ", scheduler_.num_uncommitted(), " are told");
}

void ScheduleLedger::ResolveWaiting() {
  std::vector<Choice*> unknown;
  int32_t num_seen = 0;
  ForEachLive([&](const Request&, Choice& choice) {
    if (choice.rank < 0) return;
    ++num_seen;
    if (choice.may_wait) unknown.push_back(&choice);
  });
  num_seen -= static_cast<int32_t>(unknown.size());
  const int32_t num_running = scheduler_.num_running();
  for (Choice* choice : unknown) {
    if (num_running == num_seen) {
      Leave(choice);
      ++choice->num_preemptions;
    } else if (num_running == num_seen + static_cast<int32_t>(unknown.size())) {
      choice->may_wait = false;
    } else {
      choice->is_unsure = true;
    }
  }
}

void ScheduleLedger::CheckEnded(const StepPlan& plan, TimePoint now) {
  for (const SequenceEnd& end : plan.ended) {
    const Request* request = Find(end.id);
    if (!Require(request != nullptr, "request ", end.id, " ends twice")) return;
    const std::optional<TimePoint>& deadline = request->request.deadline;
    if (request->mark) {
      Require(end.status == *request->mark, "request ", end.id, " ends with ",
              end.status.ToString());
    } else {
      Require(
          deadline && *deadline <= now && end.status.code() == absl::StatusCode::kDeadlineExceeded,
          "request ", end.id, " ends without a reason: ", end.status.ToString());
    }
    Erase(end.id);
  }
  for (const SequenceTimeout& timeout : plan.timeouts) {
    Choice* choice = FindChoice({timeout.id, timeout.choice});
    if (!Require(choice != nullptr, "request ", timeout.id, " times out after its end")) return;
    const Request& request = *Find(timeout.id);
    Require(request.time_limit_at && *request.time_limit_at <= now, "request ", timeout.id,
            " times out early");
    ++counts_[Happening::kTimeLimit];
    choice->has_ended = true;
    Leave(choice);
    if (!request.is_live()) Erase(timeout.id);
  }
  for (const auto& [id, request] : requests_) {
    Require(!request.mark, "request ", id, " was ended and is still planned for");
    Require(!request.request.deadline || *request.request.deadline > now, "request ", id,
            " is planned for after its deadline");
    Require(!request.time_limit_at || *request.time_limit_at > now, "request ", id,
            " is planned for after its time limit");
  }
}

void ScheduleLedger::CheckShape(const StepPlan& plan) {
  if (!Require(static_cast<int>(plan.batches.size()) == options_.num_ranks, "batches")) return;
  int64_t num_rows = 0;
  int32_t most_rows = 0;
  for (const RankBatch& batch : plan.batches) {
    num_rows += batch.num_rows();
    most_rows = std::max(most_rows, batch.num_rows());
  }
  Require(num_rows == plan.num_rows, plan.num_rows, " rows are told, of ", num_rows);
  Require(num_rows > 0 || !in_flight_.empty() || requests_.empty(),
          "work that does not get on: nothing runs, and ", requests_.size(), " requests live");
  const int32_t num_slots = std::min(options_.max_sequences_per_rank, options_.token_budget);
  for (const RankBatch& batch : plan.batches) {
    Require(batch.num_rows() <= options_.token_budget, batch.num_rows(), " rows, over the budget");
    if (num_rows == 0) continue;
    const bool gathers = batch.exchange == ExchangeStrategy::kGather;
    Require(batch.exchange == plan.batches[0].exchange && batch.step == plan.batches[0].step,
            "the ranks' batches do not fit each other");
    Require(batch.padded_rows == (gathers ? most_rows : 0), "padded to ", batch.padded_rows);
    for (const SlotInit& init : batch.admitted) {
      Require(init.slot >= 0 && init.slot < num_slots, "no slot ", init.slot);
    }
  }
}

void ScheduleLedger::TakeAdmissions(int rank, const RankBatch& batch) {
  for (const SlotInit& init : batch.admitted) {
    const auto found = id_of_seed_.find(init.sampling.seed);
    if (!Require(found != id_of_seed_.end(), "one who has ended is admitted")) return;
    Request& request = requests_.at(found->second);
    Choice& choice = request.choices[init.choice_index];
    if (!Require(!choice.has_ended, "an ended continuation is admitted")) return;
    const std::optional<int>& home = request.request.scheduling.home_rank;
    Require(!home || *home == rank, "request ", request.id, " is not at home on rank ", rank);
    Require(init.num_logprobs == request.request.response.num_logprobs &&
                init.experts_per_token == request.request.experts_per_token &&
                init.routed_experts == request.request.response.routed_experts,
            "request ", request.id, " is admitted with other parameters");
    const auto preempted = [this](Choice* whom) {
      if (!whom->may_wait) ++num_preempted_now_;
      Leave(whom);
      ++whom->num_preemptions;
    };
    if (choice.rank >= 0) preempted(&choice);
    std::optional<Name>& place = slots_[rank][init.slot];
    Choice* occupant = place ? FindChoice(*place) : nullptr;
    if (occupant != nullptr && occupant->rank == rank && occupant->slot == init.slot) {
      preempted(occupant);
    }
    place = NameOf(request, choice);
    const bool is_fork = !choice.is_there;
    choice.is_there = true;
    choice.rank = rank;
    choice.slot = init.slot;
    choice.next_position = 0;
    if (is_fork) {
      ++counts_[Happening::kFork];
    } else {
      admitted_.push_back({*place, rank});
      if (choice.last_rank >= 0 && choice.last_rank != rank) ++counts_[Happening::kMovedHome];
    }
    choice.last_rank = rank;
    if (!NeedsHistory(request.request.sampling)) continue;
    std::vector<int32_t> generated;
    for (int32_t i = 0; i < choice.num_committed; ++i) {
      generated.push_back((*request.solo)[init.choice_index].tokens()[i].token_id);
    }
    Require(init.prompt_token_ids == request.request.prompt_token_ids &&
                init.generated_token_ids == generated,
            "request ", request.id, " is admitted with another history");
  }
}

void ScheduleLedger::TakeChunk(int rank, const SequenceChunk& chunk, Step* step) {
  const std::optional<Name>& place = slots_[rank][chunk.slot];
  Choice* choice = place ? FindChoice(*place) : nullptr;
  if (!Require(choice != nullptr && choice->rank == rank && choice->slot == chunk.slot, "rank ",
               rank, ": a chunk for nobody in slot ", chunk.slot)) {
    return;
  }
  Request& request = *Find(place->id);
  choice->may_wait = false;
  CheckSharing(rank, chunk, &request, choice);
  CheckTokens(chunk, request, *choice);
  if (!violation_.empty()) return;
  const auto num_tokens = static_cast<int32_t>(chunk.tokens.size());
  choice->next_position = chunk.start_position + num_tokens;
  step->num_pairs_per_layer[rank] += int64_t{num_tokens} * ExpertsPerToken(request);
  for (int32_t i = chunk.start_position; i < choice->next_position; ++i) {
    const int32_t block = choice->blocks[i / options_.block_size];
    domains_[rank][block] = request.domain;
    // A fork copies the block it shares with the first before it writes into it.
    Require(request.choices.size() > 1 || scheduler_.blocks(rank).num_users(block) == 1, "rank ",
            rank, ": block ", block, " is written and shared");
  }
  if (chunk.sample) TakeSamples(rank, chunk, &request, choice, step);
}

void ScheduleLedger::CheckSharing(int rank, const SequenceChunk& chunk, Request* request,
                                  Choice* choice) {
  const bool is_fork_start = !choice->has_chunk && choice->is_decoding;
  if (!choice->has_chunk) choice->blocks.clear();
  choice->blocks.insert(choice->blocks.end(), chunk.new_blocks.begin(), chunk.new_blocks.end());
  if (choice->has_chunk) return;
  choice->has_chunk = true;
  const int32_t start = chunk.start_position;
  if (!request->cached_tokens) {
    request->cached_tokens = start;
    num_prompt_tokens_ += request->num_prompt();
    num_cached_tokens_ += start;
    Require(start < request->num_prompt(), "a whole prompt is taken from the cache");
  }
  if (is_fork_start) return;
  choice->next_position = start;
  Require(start % options_.block_size == 0, "a part of a block is taken from the cache");
  Require(start == 0 || (options_.prefix_cache && !request->request.cache.bypass &&
                         !request->request.needs_every_position()),
          "request ", request->id, " takes blocks from the cache");
  for (int32_t position = 0; position < start; position += options_.block_size) {
    const int32_t block = choice->blocks[position / options_.block_size];
    Require(domains_[rank][block] == request->domain, "request ", request->id, " of ",
            request->domain, " shares a block of ", domains_[rank][block]);
  }
}

void ScheduleLedger::CheckTokens(const SequenceChunk& chunk, const Request& request,
                                 const Choice& choice) {
  const std::vector<SampledToken>& generated = (*request.solo)[IndexOf(request, choice)].tokens();
  const auto num_tokens = static_cast<int32_t>(chunk.tokens.size());
  const int32_t end = chunk.start_position + num_tokens;
  Require(chunk.start_position == choice.next_position, "request ", request.id, ": position ",
          chunk.start_position, " follows ", choice.next_position);
  if (choice.is_decoding) {
    Require(num_tokens == 1 && chunk.tokens[0] == kLastSampledToken && chunk.sample &&
                end == request.num_prompt() + choice.num_drawn,
            "request ", request.id, " decodes at position ", chunk.start_position);
  } else {
    const int32_t num_known = request.num_prompt() + choice.num_committed;
    if (!Require(end <= num_known, "tokens that nobody knows")) return;
    for (int32_t i = 0; i < num_tokens; ++i) {
      const int32_t position = chunk.start_position + i;
      const int32_t token = position < request.num_prompt()
                                ? request.request.prompt_token_ids[position]
                                : generated[position - request.num_prompt()].token_id;
      Require(chunk.tokens[i] == token, "request ", request.id, ": another token at ", position);
    }
    Require(chunk.sample == (end == num_known), "request ", request.id, " draws after ", end,
            " of ", num_known, " tokens");
  }
  if (!chunk.sample) return;
  Require(choice.num_drawn < request.request.stopping.max_tokens, "request ", request.id,
          " draws more than max_tokens");
  Require(chunk.suppress == (choice.num_drawn < request.request.stopping.min_tokens), "request ",
          request.id, ": stop tokens suppressed at token ", choice.num_drawn);
}

void ScheduleLedger::TakeSamples(int rank, const SequenceChunk& chunk, Request* request,
                                 Choice* choice, Step* step) {
  step->samples[rank].push_back(NameOf(*request, *choice));
  choice->is_decoding = true;
  ++choice->num_drawn;
  const size_t num_forks = request->is_split ? 0 : request->choices.size() - 1;
  request->is_split = true;
  if (!Require(chunk.fork_slots.size() == num_forks, "request ", request->id, " splits into ",
               chunk.fork_slots.size() + 1)) {
    return;
  }
  for (const int32_t slot : chunk.fork_slots) {
    const std::optional<Name>& place = slots_[rank][slot];
    Choice* fork = place && place->id == request->id ? FindChoice(*place) : nullptr;
    if (!Require(fork != nullptr && fork != choice, "a fork in somebody else's slot")) return;
    fork->blocks = choice->blocks;
    fork->next_position = choice->next_position;
    fork->is_decoding = true;
    fork->num_drawn = 1;
    fork->num_reported = request->num_prompt();
    fork->num_preemptions = choice->num_preemptions;
    fork->is_unsure = choice->is_unsure;
    step->samples[rank].push_back(*place);
  }
}

void ScheduleLedger::CheckOrder(const StepPlan& plan) {
  // Whoever waits for the rows of another rank lets those behind it go to this one.
  const auto others_are_spent = [&](int home) {
    for (int rank = 0; rank < options_.num_ranks; ++rank) {
      if (rank != home && plan.batches[rank].num_rows() == options_.token_budget) return true;
    }
    return false;
  };
  for (const auto& [name, rank] : admitted_) {
    const Order order = OrderOf(name);
    const Name admitted = name;
    const int home = rank;
    bool is_before_older = false;
    ForEachLive([&](const Request& request, const Choice& choice) {
      if (choice.rank >= 0) return;
      if (request.id < admitted.id) is_before_older = true;
      const std::optional<int>& wanted = request.request.scheduling.home_rank;
      if (wanted ? *wanted != home : others_are_spent(home)) return;
      Require(OrderOf(NameOf(request, choice)) > order, "request ", admitted.id,
              " is admitted to rank ", home, " past request ", request.id, ", which was earlier");
    });
    if (is_before_older) ++counts_[Happening::kPriority];
  }
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    std::optional<Name> first;
    for (const auto& [name, home] : ran_before_) {
      if (home == rank && (!first || OrderOf(name) < OrderOf(*first))) first = name;
    }
    if (!first) continue;
    const Choice& choice = *FindChoice(*first);
    Require(choice.rank == rank, "rank ", rank, ": the first in the order, request ", first->id,
            ", was preempted");
  }
}

void ScheduleLedger::CheckProgress(const StepPlan& plan) {
  if (requests_.empty() || plan.num_rows == 0) return;
  const auto first =
      std::min_element(requests_.begin(), requests_.end(), [](const auto& a, const auto& b) {
        return std::tie(a.second.serve_at, a.first) < std::tie(b.second.serve_at, b.first);
      });
  if (first->first != first_id_) {
    // Everything that lives could run before it, one token a step, and all of it twice.
    first_id_ = first->first;
    first_steps_ = 0;
    first_bound_ = 16;
    for (const auto& [id, request] : requests_) {
      const auto num_choices = static_cast<int64_t>(request.choices.size());
      first_bound_ +=
          2 * num_choices * (request.num_prompt() + request.request.stopping.max_tokens);
    }
  }
  Require(++first_steps_ <= first_bound_, "request ", first_id_, " is first in the order and has ",
          "not ended in ", first_bound_, " steps: it starves");
}

}  // namespace moed
