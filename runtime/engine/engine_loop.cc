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
  bool is_running = false;  // a step is launched and not awaited
  StepPlan plan;
  while (PlanStep(is_running, &plan)) {
    output_.PostTimeouts(std::move(plan.timeouts));
    output_.PostEnds(std::move(plan.ended));
    const absl::Status status =
        ChangeSteps(std::move(plan.batches), plan.num_rows > 0, &is_running);
    if (!status.ok()) EnterFault(status);
  }
  // Nobody asks any more for what the last step gave; only the ranks must be through with it.
  if (is_running) group_->Await().IgnoreError();
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
  // An idle engine has no request, hence no deadline to wake for.
  while (!stopping_ && !is_running && !scheduler_.HasWork()) wake_.Wait(mutex_);
  if (stopping_) return false;
  *plan = scheduler_.Plan(options_.now());
  MOED_CHECK(plan->num_rows > 0 || is_running || !scheduler_.HasWork(),
             "requests wait and nothing runs");
  return true;
}

absl::Status EngineImpl::ChangeSteps(std::vector<RankBatch> next, bool has_next, bool* is_running) {
  std::optional<std::vector<RankResult>> results;
  if (*is_running) {
    *is_running = false;
    MOED_ASSIGN_OR_RETURN(results, group_->Await());
  }
  absl::Status launched;
  if (has_next) {
    // Before the commit, which the plan was made without: the ranks wait for as little as can be.
    launched = group_->Launch(std::move(next));
    *is_running = launched.ok();
  }
  if (results.has_value()) {
    absl::Status committed = CommitStep(*results);
    if (!committed.ok()) {
      if (*is_running) group_->Await().IgnoreError();
      *is_running = false;
      return committed;
    }
  }
  return launched;
}

absl::Status EngineImpl::CommitStep(absl::Span<const RankResult> results) {
  const TimePoint now = options_.now();
  MOED_RETURN_IF_ERROR(ledger_->Add(results, now));
  StepOutput output;
  {
    MutexLock lock(mutex_);
    MOED_ASSIGN_OR_RETURN(output, scheduler_.Commit(results, now));
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
