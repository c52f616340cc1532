// The engine thread of EngineImpl.
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/engine/engine_impl.h"

namespace moed {

void EngineImpl::Run() {
  StepPlan plan;
  while (PlanStep(&plan)) {
    output_.PostEnds(std::move(plan.ended));
    if (plan.num_rows == 0) continue;
    const absl::Status status = RunStep(std::move(plan));
    if (!status.ok()) EnterFault(status);
  }
  absl::Status reason;
  {
    MutexLock lock(mutex_);
    reason = stop_reason_;
  }
  EndAll(reason);
}

bool EngineImpl::PlanStep(StepPlan* plan) {
  MutexLock lock(mutex_);
  // An idle engine has no request, hence no deadline to wake for.
  while (!stopping_ && !scheduler_.HasWork()) wake_.Wait(mutex_);
  if (stopping_) return false;
  *plan = scheduler_.Plan(options_.now());
  MOED_CHECK(plan->num_rows > 0 || !scheduler_.HasWork(), "requests wait and nothing runs");
  return true;
}

absl::Status EngineImpl::RunStep(StepPlan plan) {
  MOED_RETURN_IF_ERROR(group_->Launch(std::move(plan.batches)));
  MOED_ASSIGN_OR_RETURN(const std::vector<RankResult> results, group_->Await());
  std::vector<SequenceToken> tokens;
  MOED_RETURN_IF_ERROR(CommitStep(results, &tokens));
  output_.PostTokens(std::move(tokens));
  return absl::OkStatus();
}

absl::Status EngineImpl::CommitStep(absl::Span<const RankResult> results,
                                    std::vector<SequenceToken>* tokens) {
  MutexLock lock(mutex_);
  for (size_t rank = 0; rank < results.size(); ++rank) {
    const std::vector<int64_t>& counts = results[rank].expert_counts;
    if (counts.size() == expert_tokens_.size()) continue;
    return absl::InternalError(absl::StrCat("rank ", rank, " counted ", counts.size(),
                                            " experts over all layers, of ",
                                            expert_tokens_.size()));
  }
  MOED_ASSIGN_OR_RETURN(*tokens, scheduler_.Commit(results, options_.now()));
  for (const RankResult& result : results) {
    for (size_t i = 0; i < expert_tokens_.size(); ++i) expert_tokens_[i] += result.expert_counts[i];
  }
  ++committed_steps_;
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
