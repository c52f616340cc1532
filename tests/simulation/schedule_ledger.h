// Keeps its own books of what one Scheduler has been told and has answered, and holds every answer
// against them.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "runtime/schedule/scheduler.h"
#include "tests/simulation/scenario.h"
#include "tests/simulation/simulation_counts.h"
#include "tests/simulation/solo_oracle.h"

namespace moed {

class ScheduleLedger {
 public:
  // All three outlive the ledger.
  ScheduleLedger(const SimulatedEngine& engine, const Scheduler& scheduler,
                 SimulationCounts* counts)
      : engine_(engine),
        options_(engine.scheduler),
        scheduler_(scheduler),
        counts_(*counts),
        slots_(options_.num_ranks),
        domains_(options_.num_ranks) {
    for (auto& domains : domains_) domains.resize(options_.num_blocks_per_rank);
    for (auto& slots : slots_) slots.resize(options_.max_sequences_per_rank);
  }

  // What Submit must answer.
  absl::StatusCode ExpectedAnswer(const GenerationRequest& request) const;
  // `solo` [n] outlives the ledger.
  void Submitted(SequenceId id, const GenerationRequest& request,
                 const std::vector<SoloChoice>* solo, TimePoint now);
  void Marked(SequenceId id, const absl::Status& status);
  void ChoiceEnded(SequenceId id, int32_t choice);
  // Its stream has been closed, with nobody to tell the scheduler.
  void Closed(SequenceId id);
  void Planned(const StepPlan& plan, TimePoint now);
  void Committed(absl::Span<const RankResult> results, const StepOutput& output);
  void EndedAll(const std::vector<SequenceEnd>& ended, const absl::Status& status);

  // The first thing that must not be, or empty.
  const std::string& violation() const { return violation_; }

 private:
  struct Choice {
    bool is_there = false;  // the first one always, the others from the split on
    bool has_ended = false;
    int rank = -1;  // -1: it waits
    int last_rank = -1;
    int32_t slot = -1;
    std::vector<int32_t> blocks;
    bool has_chunk = false;     // in this stay in the slot
    bool is_decoding = false;   // it has drawn in this stay
    bool may_wait = false;      // preempted perhaps: nothing was seen of it
    bool is_unsure = false;     // that was so once
    int32_t next_position = 0;  // to be computed
    int32_t num_drawn = 0;      // in steps that are planned
    int32_t num_committed = 0;
    int32_t num_reported = 0;  // positions
    int32_t num_preemptions = 0;
  };
  struct Request {
    SequenceId id = 0;
    GenerationRequest request;
    const std::vector<SoloChoice>* solo = nullptr;
    TimePoint serve_at;
    std::optional<TimePoint> time_limit_at;
    std::optional<absl::Status> mark;
    bool is_split = false;
    std::optional<int32_t> cached_tokens;  // of the first admission
    std::string domain;                    // who may share its blocks
    std::vector<Choice> choices;           // [n]

    int32_t num_prompt() const { return static_cast<int32_t>(request.prompt_token_ids.size()); }
    bool is_live() const;
  };
  struct Name {
    SequenceId id = 0;
    int32_t choice = 0;
  };
  using Order = std::tuple<TimePoint, SequenceId, int32_t>;
  struct Step {
    std::vector<std::vector<Name>> samples;    // [num_ranks]
    std::vector<int64_t> num_pairs_per_layer;  // [num_ranks]
  };

  template <typename... Args>
  bool Require(bool holds, const Args&... what) {
    if (!holds && violation_.empty()) violation_ = absl::StrCat(what...);
    return holds;
  }
  Request* Find(SequenceId id);
  Choice* FindChoice(const Name& name);
  Order OrderOf(const Name& name);
  int32_t ExpertsPerToken(const Request& request) const;
  // Calls visit(request, choice) for each that is there and has not ended.
  template <typename Visit>
  void ForEachLive(const Visit& visit) {
    for (auto& [id, request] : requests_) {
      for (Choice& choice : request.choices) {
        if (choice.is_there && !choice.has_ended) visit(request, choice);
      }
    }
  }
  static int32_t IndexOf(const Request& request, const Choice& choice) {
    return static_cast<int32_t>(&choice - request.choices.data());
  }
  static Name NameOf(const Request& request, const Choice& choice) {
    return {request.id, IndexOf(request, choice)};
  }
  void Leave(Choice* choice);
  void Erase(SequenceId id);
  // It had a normal end by what it drew.
  void Stop(const Name& name);

  // schedule_ledger_plan.cc
  void CheckEnded(const StepPlan& plan, TimePoint now);
  void CheckShape(const StepPlan& plan);
  void TakeAdmissions(int rank, const RankBatch& batch);
  void TakeChunk(int rank, const SequenceChunk& chunk, Step* step);
  void TakeSamples(int rank, const SequenceChunk& chunk, Request* request, Choice* choice,
                   Step* step);
  void CheckTokens(const SequenceChunk& chunk, const Request& request, const Choice& choice);
  void CheckSharing(int rank, const SequenceChunk& chunk, Request* request, Choice* choice);
  // Tells who waits of those of whom nothing was seen, where their number tells it.
  void ResolveWaiting();
  void CheckOrder(const StepPlan& plan);
  void CheckProgress(const StepPlan& plan);

  // schedule_ledger_commit.cc
  void CheckReport(const SequenceReport& told);
  void CheckToken(const SequenceToken& token, const SampledToken& sampled);
  // Blocks, slots and counters against the books.
  void CheckState();

  const SimulatedEngine& engine_;
  const SchedulerOptions& options_;
  const Scheduler& scheduler_;
  SimulationCounts& counts_;
  std::map<SequenceId, Request> requests_;  // not ended
  std::map<uint64_t, SequenceId> id_of_seed_;
  std::vector<std::vector<std::optional<Name>>> slots_;  // [num_ranks][slot]: filled by whom last
  std::vector<std::vector<std::string>> domains_;        // [num_ranks][block]: of who wrote last
  std::deque<Step> in_flight_;
  // Continuations that finished, or whose stop string was found, and their rows drawn in vain.
  std::map<std::pair<SequenceId, int32_t>, int> num_overrun_;

  // Of the plan that is being looked at.
  std::vector<std::pair<Name, int>> ran_before_;  // with their ranks
  std::vector<std::pair<Name, int>> admitted_;    // from the queue
  int64_t num_preempted_now_ = 0;

  int64_t num_preemptions_ = 0;  // Scheduler's count when last looked at
  uint64_t num_steps_ = 0;       // committed
  int64_t num_prompt_tokens_ = 0;
  int64_t num_cached_tokens_ = 0;
  int64_t num_dropped_pairs_ = 0;
  SequenceId first_id_ = 0;  // first in the order of service, for
  int64_t first_steps_ = 0;  // so many steps, of at most
  int64_t first_bound_ = 0;  // so many
  std::string violation_;
};

}  // namespace moed
