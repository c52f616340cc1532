#include "tests/simulation/simulated_engine.h"

#include <utility>

#include "absl/strings/str_join.h"

namespace moed {
namespace {

FakeRankOptions RankOptions(const SimulatedEngine& engine) {
  FakeRankOptions options;
  static_cast<FakeModel&>(options) = engine.model;
  options.block_size = engine.scheduler.block_size;
  options.num_blocks = engine.scheduler.num_blocks_per_rank;
  options.max_sequences = engine.scheduler.max_sequences_per_rank;
  options.max_rows = engine.scheduler.token_budget;
  return options;
}

}  // namespace

SimulatedEngineRun::SimulatedEngineRun(const SimulatedEngine& engine, SimulationCounts* counts)
    : engine_(engine),
      counts_(*counts),
      scheduler_(engine.scheduler),
      ledger_(engine, scheduler_, counts),
      processor_([this](const Closing& closing) { OnClosing(closing); }) {
  for (int rank = 0; rank < engine.scheduler.num_ranks; ++rank) {
    ranks_.emplace_back(RankOptions(engine));
  }
}

const std::string& SimulatedEngineRun::violation() const {
  return breach_.empty() ? ledger_.violation() : breach_;
}

absl::StatusOr<SequenceId> SimulatedEngineRun::Submit(const GenerationRequest& request,
                                                      const std::vector<SoloChoice>* solo,
                                                      std::shared_ptr<GenerationSink> sink,
                                                      TimePoint now) {
  const absl::StatusCode expected = ledger_.ExpectedAnswer(request);
  const absl::StatusOr<SequenceId> id = scheduler_.Submit(request, now);
  if (id.status().code() != expected && breach_.empty()) {
    breach_ = absl::StrCat("a request is answered ", id.status().ToString(), " instead of ",
                           absl::StatusCodeToString(expected));
  }
  if (!id.ok()) return id;
  ledger_.Submitted(*id, request, solo, now);
  OutputOpen open;
  open.id = *id;
  open.output = std::make_unique<RequestOutput>(request, &SimulationTokenizer());
  open.sink = std::move(sink);
  open.submitted_at = now;
  output_queue_.push_back(std::move(open));
  is_awake_ = true;
  return id;
}

void SimulatedEngineRun::Cancel(SequenceId id, const absl::Status& reason) {
  scheduler_.End(id, reason);
  ledger_.Marked(id, reason);
}

bool SimulatedEngineRun::CanPlan() const {
  if (engine_.flushes_output && HasOutput()) return false;
  return static_cast<int>(results_.size()) < engine_.max_uncommitted_plans && !must_commit_ &&
         (scheduler_.HasWork() || results_.empty());
}

void SimulatedEngineRun::Plan(TimePoint now) {
  story_.clear();
  if (!scheduler_.HasWork()) {
    is_awake_ = false;
    return;
  }
  if (!results_.empty()) ++counts_[Happening::kPlanAhead];
  if (HasOutput()) ++counts_[Happening::kLateOutput];
  StepPlan plan = scheduler_.Plan(now);
  if (tells_story) TellPlan(plan);
  ledger_.Planned(plan, now);
  if (!plan.ended.empty()) output_queue_.push_back(std::move(plan.ended));
  if (!plan.timeouts.empty()) output_queue_.push_back(std::move(plan.timeouts));
  if (!violation().empty()) return;
  if (plan.num_rows == 0) {
    must_commit_ = !results_.empty();
    return;
  }
  std::vector<RankResult> results;
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    results.push_back(ranks_[rank].Step(plan.batches[rank]));
    if (ranks_[rank].breach().empty() || !breach_.empty()) continue;
    breach_ = absl::StrCat("rank ", rank, ": ", ranks_[rank].breach());
  }
  results_.push_back(std::move(results));
}

void SimulatedEngineRun::Commit(TimePoint now) {
  story_.clear();
  committed_.clear();
  must_commit_ = false;
  const std::vector<RankResult> results = std::move(results_.front());
  results_.pop_front();
  absl::StatusOr<StepOutput> output = scheduler_.Commit(results, now);
  if (!output.ok()) {
    breach_ = output.status().ToString();
    return;
  }
  ledger_.Committed(results, *output);
  for (const SequenceToken& token : output->tokens) {
    committed_.push_back(token.id);
    if (!tells_story) continue;
    absl::StrAppend(&story_, " ", token.id, ".", token.choice, "=", token.sample.token_id,
                    token.finish ? "." : "");
  }
  output_queue_.push_back(*std::move(output));
}

void SimulatedEngineRun::Fail(const absl::Status& status, TimePoint now) {
  results_.clear();
  std::vector<SequenceEnd> ended = scheduler_.EndAll(status, now);
  ledger_.EndedAll(ended, status);
  output_queue_.push_back(std::move(ended));
}

void SimulatedEngineRun::ProcessOutput() {
  OutputEvent event = std::move(output_queue_.front());
  output_queue_.pop_front();
  if (auto* open = std::get_if<OutputOpen>(&event)) {
    processor_.Open(std::move(*open));
  } else if (auto* output = std::get_if<StepOutput>(&event)) {
    for (SequenceReport& report : output->reports) processor_.Report(std::move(report));
    for (const SequenceToken& token : output->tokens) processor_.Token(token);
  } else if (auto* timeouts = std::get_if<std::vector<SequenceTimeout>>(&event)) {
    for (const SequenceTimeout& timeout : *timeouts) processor_.Timeout(timeout);
  } else if (auto* ends = std::get_if<std::vector<SequenceEnd>>(&event)) {
    for (const SequenceEnd& end : *ends) processor_.End(end);
  }
}

// As EngineImpl does.
void SimulatedEngineRun::OnClosing(const Closing& closing) {
  if (closing.cause == ClosingCause::kStopString) {
    scheduler_.EndChoice(closing.id, closing.choice);
    ledger_.ChoiceEnded(closing.id, closing.choice);
  } else if (closing.cause == ClosingCause::kReader) {
    Cancel(closing.id, absl::CancelledError());
  } else {
    ledger_.Closed(closing.id);
  }
}

void SimulatedEngineRun::AddCounts() {
  const SchedulerCounters& counters = scheduler_.counters();
  counts_[Happening::kStep] += static_cast<int64_t>(counters.steps);
  counts_[Happening::kCacheHit] += counters.cached_tokens;
  for (int rank = 0; rank < engine_.scheduler.num_ranks; ++rank) {
    counts_[Happening::kEviction] += scheduler_.blocks(rank).num_evictions();
  }
}

void SimulatedEngineRun::CheckIdle() {
  if (!violation().empty()) return;
  if (scheduler_.HasWork() || !results_.empty()) {
    breach_ = "the engine sleeps and has work";
  } else if (processor_.num_open() > 0) {
    breach_ = absl::StrCat(processor_.num_open(), " streams are open when all is over");
  }
  for (int rank = 0; rank < engine_.scheduler.num_ranks; ++rank) {
    const BlockPool& blocks = scheduler_.blocks(rank);
    if (blocks.num_free() == blocks.num_blocks() || !breach_.empty()) continue;
    breach_ = absl::StrCat("rank ", rank, ": ", blocks.num_blocks() - blocks.num_free(),
                           " blocks are leaked");
  }
}

void SimulatedEngineRun::TellPlan(const StepPlan& plan) {
  for (const SequenceEnd& end : plan.ended) {
    absl::StrAppend(&story_, " ended ", end.id, " ", absl::StatusCodeToString(end.status.code()));
  }
  for (const SequenceTimeout& timeout : plan.timeouts) {
    absl::StrAppend(&story_, " timeout ", timeout.id, ".", timeout.choice);
  }
  for (size_t rank = 0; rank < plan.batches.size(); ++rank) {
    const RankBatch& batch = plan.batches[rank];
    absl::StrAppend(&story_, " | rank ", rank, ":");
    for (const SlotInit& init : batch.admitted) {
      absl::StrAppend(&story_, " +", init.slot, "(seed ", init.sampling.seed, ".",
                      init.choice_index, ")");
    }
    for (const BlockCopy& copy : batch.block_copies) {
      absl::StrAppend(&story_, " copy ", copy.from, ">", copy.to);
    }
    for (const SequenceChunk& chunk : batch.chunks) {
      absl::StrAppend(&story_, " ", chunk.slot, "@", chunk.start_position, "x", chunk.tokens.size(),
                      chunk.sample ? "*" : "", "{", absl::StrJoin(chunk.new_blocks, ","), "}");
      if (!chunk.fork_slots.empty()) {
        absl::StrAppend(&story_, "forks ", absl::StrJoin(chunk.fork_slots, ","));
      }
    }
  }
}

}  // namespace moed
