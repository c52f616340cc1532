// The engine thread of EngineImpl.
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/engine/engine_impl.h"

namespace moed {

void EngineImpl::Run() {
  std::optional<RunningStep> running;
  StepPlan plan;
  while (PlanStep(running.has_value(), &plan)) {
    output_.PostTimeouts(std::move(plan.timeouts));
    output_.PostEnds(std::move(plan.ended));
    const absl::Status status = ChangeSteps(std::move(plan), &running);
    if (!status.ok()) EnterFault(status);
  }
  // Nobody asks any more for what the last step gave; only the ranks must be through with it.
  if (running.has_value()) group_->Await().IgnoreError();
  absl::Status reason;
  {
    MutexLock lock(mutex_);
    reason = stop_reason_;
  }
  EndAll(reason);
}

bool EngineImpl::PlanStep(bool is_running, StepPlan* plan) {
  // A stop string in what the last commit gave ends its continuation before the plan is made, so
  // that it has one row too many at most: that in the step which runs. The wait is the step's own
  // time; output that takes longer than a step would hold the engine up in any case.
  output_.Flush();
  MutexLock lock(mutex_);
  turn_began_at_.reset();
  // An idle engine has no request, hence no deadline to wake for.
  while (!stopping_ && !is_running && !scheduler_.HasWork()) wake_.Wait(mutex_);
  if (stopping_) return false;
  const TimePoint now = options_.now();
  turn_began_at_ = now;
  *plan = scheduler_.Plan(now);
  MOED_CHECK(plan->num_rows > 0 || is_running || !scheduler_.HasWork(),
             "requests wait and nothing runs");
  return true;
}

absl::Status EngineImpl::ChangeSteps(StepPlan next, std::optional<RunningStep>* running) {
  const std::optional<RunningStep> before = std::exchange(*running, std::nullopt);
  std::vector<RankResult> results;
  if (before.has_value()) {
    MOED_ASSIGN_OR_RETURN(results, group_->Await());
  }
  const TimePoint now = options_.now();
  absl::Status launched;
  if (next.num_rows > 0) {
    const RunningStep step = {PhaseOf(next.batches), next.num_rows, now};
    // Before the commit, which the plan was made without: the ranks wait for as little as can be.
    launched = group_->Launch(std::move(next.batches));
    if (launched.ok()) *running = step;
  }
  if (before.has_value()) {
    absl::Status committed = CommitStep(*before, now, results);
    if (!committed.ok()) {
      if (running->has_value()) group_->Await().IgnoreError();
      running->reset();
      return committed;
    }
  }
  return launched;
}

absl::Status EngineImpl::CommitStep(const RunningStep& step, TimePoint answered_at,
                                    absl::Span<const RankResult> results) {
  MOED_RETURN_IF_ERROR(ledger_->Add(results, answered_at));
  StepOutput output;
  {
    MutexLock lock(mutex_);
    MOED_ASSIGN_OR_RETURN(output, scheduler_.Commit(results, answered_at));
    steps_.Add(step.phase, answered_at - step.launched_at, step.num_rows);
  }
  output_.PostStep(std::move(output));
  return absl::OkStatus();
}

void EngineImpl::EndAll(const absl::Status& status) {
  std::vector<SequenceEnd> ended;
  {
    MutexLock lock(mutex_);
    ended = scheduler_.EndAll(status, options_.now());
  }
  output_.PostEnds(std::move(ended));
}

void EngineImpl::EnterFault(const absl::Status& fault) {
  {
    // From here on Submit refuses, and so the scheduler stays empty once EndAll has emptied it.
    MutexLock lock(mutex_);
    fault_ = fault;
  }
  EndAll(absl::UnavailableError(kRankFailedMessage));
  output_.Flush();
  if (options_.on_fault) options_.on_fault(fault);
}

}  // namespace moed
