// EngineImpl's part of a simulation: one scheduler, its ranks and its output, until the ranks fail.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/output/output_processor.h"
#include "runtime/schedule/scheduler.h"
#include "tests/simulation/schedule_ledger.h"
#include "tests/simulation/simulation_counts.h"
#include "tests/support/fake_rank.h"

namespace moed {

class SimulatedEngineRun {
 public:
  // Both outlive the run.
  SimulatedEngineRun(const SimulatedEngine& engine, SimulationCounts* counts);

  absl::StatusOr<SequenceId> Submit(const GenerationRequest& request,
                                    const std::vector<SoloChoice>* solo,
                                    std::shared_ptr<GenerationSink> sink, TimePoint now);
  void Cancel(SequenceId id, const absl::Status& reason);

  // The engine thread. Asleep it has nothing to do until a request arrives.
  bool is_awake() const { return is_awake_; }
  // True: it may do either.
  bool CanPlan() const;
  bool CanCommit() const { return !results_.empty(); }
  void Plan(TimePoint now);
  void Commit(TimePoint now);
  // The step that runs fails, or the next one would: ends everything.
  void Fail(const absl::Status& status, TimePoint now);

  // The output thread.
  bool HasOutput() const { return !output_queue_.empty(); }
  void ProcessOutput();

  // Continuations' tokens committed by the last Commit, by request.
  const std::vector<SequenceId>& committed() const { return committed_; }
  // What only the scheduler counts, once.
  void AddCounts();
  // Looked at when nothing is left to do.
  void CheckIdle();
  const std::string& violation() const;
  // What the last call did, for the trace.
  const std::string& story() const { return story_; }
  bool tells_story = false;

 private:
  using OutputEvent =
      std::variant<OutputOpen, StepOutput, std::vector<SequenceTimeout>, std::vector<SequenceEnd>>;

  void OnClosing(const Closing& closing);
  void TellPlan(const StepPlan& plan);

  const SimulatedEngine& engine_;
  SimulationCounts& counts_;
  Scheduler scheduler_;
  ScheduleLedger ledger_;
  std::vector<FakeRank> ranks_;
  OutputProcessor processor_;
  std::deque<OutputEvent> output_queue_;
  std::deque<std::vector<RankResult>> results_;  // of steps that have run, uncommitted
  std::vector<SequenceId> committed_;
  bool is_awake_ = false;
  bool must_commit_ = false;  // a plan had no rows, and only a commit can change that
  std::string breach_;
  std::string story_;
};

}  // namespace moed
