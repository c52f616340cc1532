#include "tests/simulation/schedule_ledger.h"

#include <algorithm>

namespace moed {

bool ScheduleLedger::Request::is_live() const {
  return std::any_of(choices.begin(), choices.end(),
                     [](const Choice& choice) { return !choice.has_ended; });
}

ScheduleLedger::Request* ScheduleLedger::Find(SequenceId id) {
  const auto found = requests_.find(id);
  return found == requests_.end() ? nullptr : &found->second;
}

ScheduleLedger::Choice* ScheduleLedger::FindChoice(const Name& name) {
  Request* request = Find(name.id);
  if (request == nullptr) return nullptr;
  Choice& choice = request->choices[name.choice];
  return choice.has_ended ? nullptr : &choice;
}

ScheduleLedger::Order ScheduleLedger::OrderOf(const Name& name) {
  return {Find(name.id)->serve_at, name.id, name.choice};
}

int32_t ScheduleLedger::ExpertsPerToken(const Request& request) const {
  const int32_t asked = request.request.experts_per_token;
  return asked > 0 ? asked : engine_.model.experts_per_token;
}

void ScheduleLedger::Leave(Choice* choice) {
  choice->rank = -1;
  choice->slot = -1;
  choice->blocks.clear();
  choice->has_chunk = false;
  choice->is_decoding = false;
  choice->may_wait = false;
}

void ScheduleLedger::Erase(SequenceId id) {
  id_of_seed_.erase(requests_.at(id).request.sampling.seed);
  requests_.erase(id);
}

void ScheduleLedger::Stop(const Name& name) {
  num_overrun_[{name.id, name.choice}] = 0;
  Choice* choice = FindChoice(name);
  choice->has_ended = true;
  Leave(choice);
  if (!Find(name.id)->is_live()) Erase(name.id);
}

absl::StatusCode ScheduleLedger::ExpectedAnswer(const GenerationRequest& request) const {
  const int32_t num_slots = std::min(options_.max_sequences_per_rank, options_.token_budget);
  const int64_t num_tokens =
      static_cast<int64_t>(request.prompt_token_ids.size()) + request.stopping.max_tokens - 1;
  const std::optional<int>& home = request.scheduling.home_rank;
  if (request.prompt_token_ids.empty() || request.stopping.max_tokens < 1 ||
      (home && (*home < 0 || *home >= options_.num_ranks)) || request.sampling.n < 1 ||
      request.sampling.n > num_slots ||
      num_tokens > options_.num_blocks_per_rank * options_.block_size) {
    return absl::StatusCode::kInvalidArgument;
  }
  return scheduler_.num_waiting() >= options_.max_waiting ? absl::StatusCode::kResourceExhausted
                                                          : absl::StatusCode::kOk;
}

void ScheduleLedger::Submitted(SequenceId id, const GenerationRequest& request,
                               const std::vector<SoloChoice>* solo, TimePoint now) {
  Require(requests_.empty() || id > requests_.rbegin()->first, "id ", id, " is used again");
  Request& entry = requests_[id];
  entry.id = id;
  entry.request = request;
  entry.solo = solo;
  entry.serve_at = now - request.scheduling.priority * options_.ageing;
  if (request.stopping.time_limit) entry.time_limit_at = now + *request.stopping.time_limit;
  entry.domain = request.cache.bypass
                     ? absl::StrCat("alone ", id)
                     : absl::StrCat("k ", ExpertsPerToken(entry), " salt ", request.cache.salt);
  entry.choices.resize(request.sampling.n);
  entry.choices[0].is_there = true;
  id_of_seed_[request.sampling.seed] = id;
  CheckState();
}

void ScheduleLedger::Marked(SequenceId id, const absl::Status& status) {
  Request* request = Find(id);
  if (request != nullptr && !request->mark) request->mark = status;
  CheckState();
}

void ScheduleLedger::ChoiceEnded(SequenceId id, int32_t index) {
  Choice* choice = FindChoice({id, index});
  // A marked request ends as a whole.
  if (choice == nullptr || Find(id)->mark) return;
  ++counts_[Happening::kStopString];
  Stop({id, index});
  CheckState();
}

void ScheduleLedger::Closed(SequenceId id) {
  const Request* request = Find(id);
  // One that is marked ends with the next plan.
  Require(request == nullptr || request->mark, "request ", id, " is closed and still served");
}

void ScheduleLedger::EndedAll(const std::vector<SequenceEnd>& ended, const absl::Status& status) {
  for (const SequenceEnd& end : ended) {
    const Request* request = Find(end.id);
    if (!Require(request != nullptr, "request ", end.id, " ends twice")) return;
    Require(end.status == request->mark.value_or(status) ||
                end.status.code() == absl::StatusCode::kDeadlineExceeded,
            "request ", end.id, " ends with ", end.status.ToString());
    Erase(end.id);
  }
  Require(requests_.empty(), "requests are left after everything was ended");
  Require(!scheduler_.HasWork() && scheduler_.num_uncommitted() == 0,
          "work is left after everything was ended");
  in_flight_.clear();
  CheckState();
}

void ScheduleLedger::CheckState() {
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  bool is_sure = true;
  std::vector<std::vector<int32_t>> users(options_.num_ranks);
  for (auto& of_rank : users) of_rank.resize(options_.num_blocks_per_rank);
  ForEachLive([&](const Request&, const Choice& choice) {
    if (choice.may_wait) is_sure = false;
    ++(choice.rank < 0 ? num_waiting : num_running);
    for (const int32_t block : choice.blocks) ++users[choice.rank][block];
  });
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    const BlockPool& pool = scheduler_.blocks(rank);
    int64_t num_free = 0;
    for (int32_t block = 0; block < options_.num_blocks_per_rank; ++block) {
      const int32_t counted = pool.num_users(block);
      if (counted == 0) ++num_free;
      const int32_t expected = users[rank][block];
      if (is_sure ? counted == expected : counted <= expected) continue;
      Require(false, "rank ", rank, ": block ", block, " has ", counted, " users, of ", expected);
    }
    Require(pool.num_free() == num_free, "rank ", rank, ": ", pool.num_free(),
            " blocks can be allocated, but nobody uses ", num_free);
  }
  Require(scheduler_.HasWork() == !requests_.empty(), "the scheduler has ",
          scheduler_.HasWork() ? "" : "no ", "work, with ", requests_.size(), " requests live");
  if (!is_sure) return;
  Require(scheduler_.num_running() == num_running, scheduler_.num_running(),
          " continuations run, of ", num_running);
  Require(scheduler_.num_waiting() == num_waiting, scheduler_.num_waiting(),
          " continuations wait, of ", num_waiting);
}

}  // namespace moed
