// The engine over a worker group: one thread plans, launches, waits and commits.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/routing_ledger.h"
#include "runtime/engine/worker_group.h"
#include "runtime/output/output_thread.h"
#include "runtime/schedule/exchange_policy.h"
#include "runtime/schedule/scheduler.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

struct EngineOptions {
  int32_t max_queued_requests = 1024;
  int32_t token_budget = 0;  // rows of a rank per step; 0: WorkerGroupInfo::max_rows_per_step
  ExchangeMode exchange = ExchangeMode::kAuto;
  bool prefix_cache = true;
  // SchedulerOptions::ageing; not negative.
  std::chrono::milliseconds priority_ageing = std::chrono::seconds(1);
  // RoutingLedgerOptions::keeps_tokens; the group must have been started to trace routing.
  bool keeps_token_statistics = false;
  std::function<TimePoint()> now;  // the clock; unset: std::chrono::steady_clock
  // Called once, when the ranks are broken for good and every sink has been told, with the reason
  // (for operators: it names rank, layer and collective). On the engine thread: must not call
  // Shutdown or destroy the engine, but hand over to a thread that does.
  std::function<void(const absl::Status&)> on_fault;
};

// `group` has been started and answered `info`. `tokenizer` may be null (requests then get token
// ids only) and must outlive the engine. The threads run when this returns. INVALID_ARGUMENT names
// an option or a field of `info` that is out of range.
//
// Shutdown stops the group. Where a rank hangs (WorkerGroup::Stop says false) the group is left
// undestroyed on purpose, and the process must exit.
absl::StatusOr<std::unique_ptr<Engine>> MakeEngine(EngineOptions options,
                                                   std::unique_ptr<WorkerGroup> group,
                                                   const WorkerGroupInfo& info,
                                                   const Tokenizer* tokenizer);

// What a client is told when the ranks fail: nothing of the inside.
inline constexpr absl::string_view kRankFailedMessage =
    "the model's ranks have failed; send the request again, to another server if there is one";

// Plans a step while the one before runs, so that the ranks never wait for a plan.
//
// Locks: `mutex_` is taken by the engine thread only to plan and to commit, never while it waits
// for a step or a sink is called, so that Submit, Cancel and Stats never wait for a device.
class EngineImpl : public Engine {
 public:
  EngineImpl(EngineOptions options, const SchedulerOptions& scheduler_options,
             std::unique_ptr<WorkerGroup> group, const WorkerGroupInfo& info,
             std::unique_ptr<RoutingLedger> ledger, const Tokenizer* tokenizer);
  ~EngineImpl() override;

  absl::Status Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) override;
  bool Cancel(absl::string_view request_id, absl::Status reason) override;
  void CancelOwn(absl::string_view request_id, const GenerationSink* sink,
                 absl::Status reason) override;
  void BeginDrain() override;
  void Shutdown(const absl::Status& reason) override;
  EngineStats Stats() const override;
  const RoutingLedger& routing() const override { return *ledger_; }

 private:
  struct LiveRequest {
    SequenceId id = 0;
    const GenerationSink* sink = nullptr;  // which request it is, and nothing else
  };

  // A step that is launched and not awaited.
  struct RunningStep {
    StepPhase phase = StepPhase::kDecode;
    int64_t num_rows = 0;
    TimePoint launched_at;
  };

  // The engine thread.
  void Run();
  // Plans a step; waits for work unless one runs. False: shutting down.
  bool PlanStep(bool is_running, StepPlan* plan);
  // Waits for the step that runs, if one does, launches the next, if it has rows, and hands out
  // what the first gave. On an error nothing runs.
  absl::Status ChangeSteps(StepPlan next, std::optional<RunningStep>* running);
  absl::Status CommitStep(const RunningStep& step, TimePoint answered_at,
                          absl::Span<const RankResult> results);
  // Ends every request and refuses new ones.
  void EndAll(const absl::Status& status);
  void EnterFault(const absl::Status& fault);

  // The output thread, just before a sink's OnFinish.
  void OnClosing(const Closing& closing);

  const EngineOptions options_;
  const WorkerGroupInfo info_;
  const Tokenizer* const tokenizer_;
  const std::unique_ptr<RoutingLedger> ledger_;
  std::unique_ptr<WorkerGroup> group_;  // the engine thread's, until it has been joined

  mutable Mutex mutex_;
  CondVar wake_;  // signalled when work arrives or the engine is to stop
  Scheduler scheduler_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, LiveRequest> live_ids_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<SequenceId, std::string> request_ids_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status stop_reason_ ABSL_GUARDED_BY(mutex_);
  absl::Status fault_ ABSL_GUARDED_BY(mutex_);
  StepStatistics steps_ ABSL_GUARDED_BY(mutex_);
  // When the engine thread's present turn began; unset while it waits for work.
  std::optional<TimePoint> turn_began_at_ ABSL_GUARDED_BY(mutex_);

  OutputThread output_;
  Mutex join_mutex_;  // one Shutdown at a time
  bool joined_ ABSL_GUARDED_BY(join_mutex_) = false;
  std::thread thread_;
};

}  // namespace moed
