#include "runtime/engine/engine_impl.h"

#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

absl::Status CheckPositive(absl::string_view name, int64_t value) {
  if (value >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " must be at least 1, not ", value));
}

absl::StatusOr<SchedulerOptions> MakeSchedulerOptions(const EngineOptions& options,
                                                      const WorkerGroupInfo& info) {
  MOED_RETURN_IF_ERROR(CheckPositive("num_ranks", info.num_ranks));
  MOED_RETURN_IF_ERROR(CheckPositive("num_kv_blocks_per_rank", info.num_kv_blocks_per_rank));
  MOED_RETURN_IF_ERROR(CheckPositive("max_sequences_per_rank", info.max_sequences_per_rank));
  MOED_RETURN_IF_ERROR(CheckPositive("max_rows_per_step", info.max_rows_per_step));
  MOED_RETURN_IF_ERROR(CheckPositive("block_size", info.block_size));
  MOED_RETURN_IF_ERROR(CheckPositive("num_layers", info.num_layers));
  MOED_RETURN_IF_ERROR(CheckPositive("num_experts", info.num_experts));
  MOED_RETURN_IF_ERROR(CheckPositive("experts_per_token", info.experts_per_token));
  MOED_RETURN_IF_ERROR(CheckPositive("vocab", info.vocab));
  MOED_RETURN_IF_ERROR(CheckPositive("max_queued_requests", options.max_queued_requests));
  if (options.token_budget < 0 || options.token_budget > info.max_rows_per_step) {
    return absl::InvalidArgumentError(absl::StrCat(
        "token_budget must be in [0, ", info.max_rows_per_step, "], not ", options.token_budget));
  }
  if (options.exchange == ExchangeMode::kGather && info.max_gather_rows < 1) {
    return absl::InvalidArgumentError(
        "the gather exchange is asked for, but the ranks have no memory for it: max_gather_rows "
        "is 0");
  }
  if (options.priority_ageing.count() < 0) {
    return absl::InvalidArgumentError("priority_ageing must not be negative");
  }
  SchedulerOptions scheduler;
  scheduler.num_ranks = info.num_ranks;
  scheduler.max_sequences_per_rank = info.max_sequences_per_rank;
  scheduler.block_size = info.block_size;
  scheduler.num_blocks_per_rank = info.num_kv_blocks_per_rank;
  scheduler.max_waiting = options.max_queued_requests;
  scheduler.experts_per_token = info.experts_per_token;
  scheduler.prefix_cache = options.prefix_cache;
  scheduler.ageing = options.priority_ageing;
  scheduler.exchange.mode = options.exchange;
  scheduler.exchange.max_gather_rows = info.max_gather_rows;
  scheduler.exchange.group_ranks = info.exchange_ranks;
  const int32_t budget = options.token_budget > 0 ? options.token_budget : info.max_rows_per_step;
  scheduler.token_budget = TokenBudgetLimit(scheduler.exchange, budget);
  return scheduler;
}

EngineOptions WithClock(EngineOptions options) {
  if (!options.now) options.now = [] { return std::chrono::steady_clock::now(); };
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> MakeEngine(EngineOptions options,
                                                   std::unique_ptr<WorkerGroup> group,
                                                   const WorkerGroupInfo& info,
                                                   const Tokenizer* tokenizer) {
  MOED_ASSIGN_OR_RETURN(const SchedulerOptions scheduler, MakeSchedulerOptions(options, info));
  options = WithClock(std::move(options));
  MOED_ASSIGN_OR_RETURN(std::unique_ptr<RoutingLedger> ledger,
                        RoutingLedger::Create({.num_ranks = info.num_ranks,
                                               .num_layers = info.num_layers,
                                               .num_experts = info.num_experts,
                                               .experts_per_token = info.experts_per_token,
                                               .keeps_tokens = options.keeps_token_statistics,
                                               .vocab = info.vocab},
                                              options.now()));
  return std::make_unique<EngineImpl>(std::move(options), scheduler, std::move(group), info,
                                      std::move(ledger), tokenizer);
}

EngineImpl::EngineImpl(EngineOptions options, const SchedulerOptions& scheduler_options,
                       std::unique_ptr<WorkerGroup> group, const WorkerGroupInfo& info,
                       std::unique_ptr<RoutingLedger> ledger, const Tokenizer* tokenizer)
    : options_(std::move(options)),
      info_(info),
      tokenizer_(tokenizer),
      ledger_(std::move(ledger)),
      group_(std::move(group)),
      scheduler_(scheduler_options),
      output_([this](const Closing& closing) { OnClosing(closing); }),
      thread_([this] { Run(); }) {}

EngineImpl::~EngineImpl() { Shutdown(absl::UnavailableError("the server is shutting down")); }

absl::Status EngineImpl::Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) {
  if (tokenizer_ == nullptr && RequestOutput::NeedsTokenizer(request)) {
    return absl::FailedPreconditionError(
        "the model has no tokenizer: ask for token ids, without text and stop strings");
  }
  OutputOpen open;
  open.output = std::make_unique<RequestOutput>(request, tokenizer_);
  open.sink = std::move(sink);
  open.submitted_at = options_.now();
  std::string request_id = request.request_id;

  MutexLock lock(mutex_);
  if (!fault_.ok()) return absl::UnavailableError(kRankFailedMessage);
  if (draining_) return absl::UnavailableError("the server is shutting down");
  if (live_ids_.contains(request_id)) {
    return absl::AlreadyExistsError("a request with this request_id is being served");
  }
  MOED_ASSIGN_OR_RETURN(open.id, scheduler_.Submit(std::move(request), open.submitted_at));
  live_ids_[request_id] = {open.id, open.sink.get()};
  request_ids_[open.id] = std::move(request_id);
  // Before the lock is released, and so before the engine thread can post a token of it.
  output_.PostOpen(std::move(open));
  wake_.NotifyOne();
  return absl::OkStatus();
}

bool EngineImpl::Cancel(absl::string_view request_id, absl::Status reason) {
  MOED_CHECK(!reason.ok(), "a request is cancelled without a reason");
  MutexLock lock(mutex_);
  const auto found = live_ids_.find(std::string(request_id));
  if (found == live_ids_.end()) return false;
  scheduler_.End(found->second.id, reason);
  return true;
}

void EngineImpl::CancelOwn(absl::string_view request_id, const GenerationSink* sink,
                           absl::Status reason) {
  MOED_CHECK(!reason.ok(), "a request is cancelled without a reason");
  MutexLock lock(mutex_);
  const auto found = live_ids_.find(std::string(request_id));
  if (found == live_ids_.end() || found->second.sink != sink) return;
  scheduler_.End(found->second.id, reason);
}

void EngineImpl::BeginDrain() {
  MutexLock lock(mutex_);
  draining_ = true;
}

void EngineImpl::OnClosing(const Closing& closing) {
  MutexLock lock(mutex_);
  if (closing.cause == ClosingCause::kStopString) {
    scheduler_.EndChoice(closing.id, closing.choice);
    return;
  }
  const auto found = request_ids_.find(closing.id);
  MOED_CHECK(found != request_ids_.end(), "a request ends twice");
  live_ids_.erase(found->second);
  request_ids_.erase(found);
  // The status is for nobody: the stream is closed, and the scheduler only has to let go.
  if (closing.cause == ClosingCause::kReader) {
    scheduler_.End(closing.id, absl::CancelledError());
  }
}

EngineStats EngineImpl::Stats() const {
  EngineStats stats;
  const TimePoint now = options_.now();
  MutexLock lock(mutex_);
  stats.requests_waiting = scheduler_.num_waiting();
  stats.requests_running = scheduler_.num_running();
  stats.counters = scheduler_.counters();
  for (int rank = 0; rank < info_.num_ranks; ++rank) {
    stats.free_kv_blocks.push_back(scheduler_.blocks(rank).num_free());
    stats.cached_kv_blocks.push_back(scheduler_.blocks(rank).num_cached());
    stats.total_kv_blocks.push_back(scheduler_.blocks(rank).num_blocks());
  }
  stats.steps = steps_;
  if (turn_began_at_.has_value()) stats.turn_age = now - *turn_began_at_;
  stats.fault = fault_;
  return stats;
}

void EngineImpl::Shutdown(const absl::Status& reason) {
  MOED_CHECK(!reason.ok(), "a shutdown without a reason");
  MutexLock join_lock(join_mutex_);
  if (joined_) return;
  {
    MutexLock lock(mutex_);
    draining_ = true;
    stopping_ = true;
    stop_reason_ = reason;
    wake_.NotifyOne();
  }
  thread_.join();
  output_.Stop();
  // A rank that hangs still uses the group's memory: better lost than freed under it.
  if (!group_->Stop()) static_cast<void>(group_.release());
  joined_ = true;
}

}  // namespace moed
