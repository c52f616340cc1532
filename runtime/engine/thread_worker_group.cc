#include "runtime/engine/thread_worker_group.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "parallel/emulated_communicator.h"
#include "parallel/local_communicator.h"
#include "runtime/engine/rank_thread.h"

namespace moed {
namespace {

using Clock = std::chrono::steady_clock;

absl::Status OutOfRange(absl::string_view option, int64_t value, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(option, " is ", value, ", expected ", expected));
}

}  // namespace

ThreadWorkerGroup::ThreadWorkerGroup(ThreadWorkerGroupOptions options)
    : options_(std::move(options)) {}

ThreadWorkerGroup::~ThreadWorkerGroup() { Stop(); }

absl::Status ThreadWorkerGroup::CheckOptions() const {
  MOED_CHECK(options_.weights != nullptr && options_.make_backend != nullptr,
             "a group needs weights and devices");
  const auto at_least_one = [](absl::string_view option, int64_t value) {
    return value >= 1 ? absl::OkStatus() : OutOfRange(option, value, "1 or more");
  };
  MOED_RETURN_IF_ERROR(at_least_one("num_ranks", options_.num_ranks));
  MOED_RETURN_IF_ERROR(at_least_one("block_size", options_.block_size));
  MOED_RETURN_IF_ERROR(at_least_one("max_sequences_per_rank", options_.max_sequences_per_rank));
  MOED_RETURN_IF_ERROR(at_least_one("max_rows_per_step", options_.max_rows_per_step));
  MOED_RETURN_IF_ERROR(at_least_one("rank_timeout in ms", options_.rank_timeout.count()));
  if (const auto& emulated = options_.emulated) {
    if (options_.num_ranks != 1) return OutOfRange("num_ranks", options_.num_ranks, "1 to emulate");
    if (emulated->num_ranks < 1 || emulated->rank < 0 || emulated->rank >= emulated->num_ranks) {
      return OutOfRange("emulated rank", emulated->rank,
                        absl::StrCat("one of ", emulated->num_ranks));
    }
  }
  if (options_.max_gather_rows < 0) {
    return OutOfRange("max_gather_rows", options_.max_gather_rows, "0 or more");
  }
  if (options_.num_kv_blocks < 0) {
    return OutOfRange("num_kv_blocks", options_.num_kv_blocks, "0 or more");
  }
  if (const int64_t k = options_.max_experts_per_token;
      k != 0 && (k < options_.config.top_k || k > options_.config.num_experts)) {
    return OutOfRange("max_experts_per_token", k,
                      absl::StrCat("0 or ", options_.config.top_k, " (the model's) to ",
                                   options_.config.num_experts, " (all)"));
  }
  if (!(options_.capacity_factor >= 0) || std::isinf(options_.capacity_factor)) {
    return absl::InvalidArgumentError(absl::StrCat("capacity_factor is ", options_.capacity_factor,
                                                   ", expected 0 (none) or more"));
  }
  if (options_.placement.has_value()) {
    MOED_CHECK(options_.placement->num_ranks() == placement_ranks() &&
                   options_.placement->num_layers() == options_.config.num_layers &&
                   options_.placement->num_experts() == options_.config.num_experts,
               "the placement is for another model or group");
  }
  return absl::OkStatus();
}

absl::StatusOr<WorkerLimits> ThreadWorkerGroup::MakeLimits(DType activation) const {
  WorkerLimits limits;
  limits.block_size = options_.block_size;
  limits.max_sequences = options_.max_sequences_per_rank;
  limits.max_rows = options_.max_rows_per_step;
  limits.max_gather_rows = std::min(options_.max_gather_rows, options_.max_rows_per_step);
  limits.max_experts_per_token =
      options_.max_experts_per_token > 0 ? options_.max_experts_per_token : options_.config.top_k;
  limits.capacity_factor = options_.capacity_factor;
  limits.trace_routing = options_.trace_routing;
  limits.num_kv_blocks = options_.num_kv_blocks;
  if (limits.num_kv_blocks == 0) {
    limits.num_kv_blocks =
        NumKvBlocks(options_.config, activation, options_.block_size, options_.kv_cache_bytes);
    if (limits.num_kv_blocks < 1) {
      return absl::ResourceExhaustedError(absl::StrCat("kv_cache_bytes ", options_.kv_cache_bytes,
                                                       " holds no block of ", options_.block_size,
                                                       " tokens"));
    }
  }
  const int64_t most_blocks = std::numeric_limits<int32_t>::max() / options_.block_size;
  if (limits.num_kv_blocks > most_blocks) {
    return OutOfRange("num_kv_blocks", limits.num_kv_blocks,
                      absl::StrCat(most_blocks, " or less with block_size ", options_.block_size));
  }
  return limits;
}

absl::StatusOr<WorkerGroupInfo> ThreadWorkerGroup::Start(const RankProgressCallback& progress) {
  MOED_CHECK(context_ == nullptr, "a group starts once");
  MOED_RETURN_IF_ERROR(CheckOptions());
  std::vector<std::unique_ptr<Backend>> backends;
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    MOED_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, options_.make_backend(rank));
    backends.push_back(std::move(backend));
  }
  const DType activation = backends.front()->activation_dtype();
  MOED_ASSIGN_OR_RETURN(const WorkerLimits limits, MakeLimits(activation));
  const ModelConfig& config = options_.config;
  ExpertPlacement placement =
      options_.placement.has_value()
          ? *options_.placement
          : ExpertPlacement::Even(static_cast<int>(config.num_layers),
                                  static_cast<int>(config.num_experts), placement_ranks());
  MOED_ASSIGN_OR_RETURN(
      memory_,
      PlanGroupMemory(config, placement, *backends.front(), limits,
                      options_.emulated ? std::optional(options_.emulated->rank) : std::nullopt));
  if (options_.available_memory_bytes.has_value()) {
    MOED_RETURN_IF_ERROR(CheckMemoryFits(memory_, *options_.available_memory_bytes));
  }

  WorkerGroupInfo info;
  info.num_ranks = options_.num_ranks;
  info.exchange_ranks = placement_ranks();
  info.num_kv_blocks_per_rank = limits.num_kv_blocks;
  info.max_sequences_per_rank = options_.max_sequences_per_rank;
  info.max_rows_per_step = options_.max_rows_per_step;
  info.max_gather_rows = static_cast<int32_t>(limits.max_gather_rows);
  info.block_size = static_cast<int32_t>(options_.block_size);
  info.num_layers = static_cast<int>(config.num_layers);
  info.num_experts = static_cast<int>(config.num_experts);
  info.experts_per_token = static_cast<int>(config.top_k);
  info.max_experts_per_token = static_cast<int>(limits.max_experts_per_token);
  info.vocab = static_cast<int32_t>(config.vocab_size);
  info.backend = backends.front()->Description();

  context_ = std::make_shared<RankThreadContext>(config, std::move(placement),
                                                 options_.emulated ? options_.emulated->rank : 0,
                                                 options_.num_ranks, limits, options_.weights);
  context_->backends = std::move(backends);
  watches_.resize(static_cast<size_t>(options_.num_ranks));
  const absl::Status started = StartThreads(progress);
  if (!started.ok()) {
    Stop();
    return started;
  }
  return info;
}

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> ThreadWorkerGroup::MakeEnds() {
  std::vector<std::unique_ptr<Communicator>> ends;
  if (const auto& emulated = options_.emulated) {
    ends.push_back(std::make_unique<EmulatedCommunicator>(*context_->backends.front(),
                                                          emulated->rank, emulated->num_ranks));
    return ends;
  }
  if (options_.make_group) {
    MOED_ASSIGN_OR_RETURN(group_, options_.make_group(options_.num_ranks, options_.rank_timeout));
  } else {
    MOED_ASSIGN_OR_RETURN(
        group_, LocalGroup::Create(options_.num_ranks, {.deadline = options_.rank_timeout}));
  }
  for (int rank = 0; rank < options_.num_ranks; ++rank) ends.push_back(group_->MakeEnd(rank));
  return ends;
}

absl::Status ThreadWorkerGroup::StartThreads(const RankProgressCallback& progress) {
  absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> ends = MakeEnds();
  if (!ends.ok()) {
    // The board counts threads from its making on: Stop would wait for these.
    for (int rank = 0; rank < options_.num_ranks; ++rank) context_->board.Leave(rank);
    return std::move(ends).status();
  }
  context_->progress.Begin(&progress);
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    try {
      threads_.emplace_back([context = context_, rank,
                             end = std::move((*ends)[static_cast<size_t>(rank)])]() mutable {
        RunRankThread(context, rank, std::move(end));
      });
    } catch (const std::system_error& error) {
      context_->board.Finish(
          rank, absl::ResourceExhaustedError(
                    absl::StrCat("cannot start the thread of rank ", rank, ": ", error.what())));
      for (int missing = rank; missing < options_.num_ranks; ++missing) {
        context_->board.Leave(missing);
      }
      break;
    }
  }
  // Loading has no deadline: disks differ. The progress callback can cancel it.
  RankBoard::Round round = RankBoard::Round::kRunning;
  while (round == RankBoard::Round::kRunning) {
    round = context_->board.WaitForRound(Clock::now() + std::chrono::hours(1));
  }
  context_->progress.Finish();
  if (round == RankBoard::Round::kFailed) return context_->board.failure();
  return absl::OkStatus();
}

absl::Status ThreadWorkerGroup::Launch(std::vector<RankBatch> batches) {
  MOED_CHECK(context_ != nullptr && !launched_ && !stopped_.has_value(),
             "a step is launched before the start, twice, or after the end");
  MOED_RETURN_IF_ERROR(fault_);
  for (const RankBatch& batch : batches) {
    MOED_CHECK(batch.step == batches.front().step && batch.exchange == batches.front().exchange &&
                   batch.padded_rows == batches.front().padded_rows,
               "the ranks' batches differ in what must be equal");
    MOED_CHECK(batch.exchange == ExchangeStrategy::kExact ||
                   (batch.padded_rows <= context_->limits.max_gather_rows &&
                    batch.num_rows() <= batch.padded_rows),
               "a gather step with more rows than its padding, or than its buffers hold");
  }
  const Clock::time_point now = Clock::now();
  for (size_t rank = 0; rank < watches_.size(); ++rank) {
    watches_[rank] = {.beats = context_->heartbeats[rank].Read().beats, .since = now};
  }
  context_->board.Post(std::move(batches));
  launched_ = true;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RankResult>> ThreadWorkerGroup::Await() {
  MOED_CHECK(launched_, "no step was launched");
  launched_ = false;
  while (true) {
    const Clock::time_point check_at = Clock::now() + options_.rank_timeout / 4;
    switch (context_->board.WaitForRound(check_at)) {
      case RankBoard::Round::kDone:
        return context_->board.TakeResults();
      case RankBoard::Round::kFailed:
        fault_ = context_->board.failure();
        return fault_;
      case RankBoard::Round::kRunning:
        fault_ = FindHungRank(Clock::now());
        if (!fault_.ok()) {
          if (group_ != nullptr) group_->Abort(fault_);
          return fault_;
        }
    }
  }
}

absl::Status ThreadWorkerGroup::FindHungRank(Clock::time_point now) {
  // In a group the first rank to wait notices sooner, and says who is missing.
  const auto patience = options_.num_ranks == 1 ? options_.rank_timeout
                                                : options_.rank_timeout + options_.rank_timeout / 4;
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    Watch& watch = watches_[static_cast<size_t>(rank)];
    const Heartbeat::Reading reading = context_->heartbeats[static_cast<size_t>(rank)].Read();
    if (reading.beats != watch.beats || context_->board.IsFinished(rank) || reading.in_collective) {
      watch = {.beats = reading.beats, .since = now};
    } else if (now - watch.since >= patience) {
      return absl::UnavailableError(absl::StrCat(DescribePlace(rank, reading), ": no progress for ",
                                                 options_.rank_timeout.count(), " ms"));
    }
  }
  return absl::OkStatus();
}

bool ThreadWorkerGroup::Stop() {
  if (stopped_.has_value()) return *stopped_;
  if (context_ == nullptr) return true;
  context_->progress.Cancel();
  context_->board.Stop();
  if (group_ != nullptr) group_->Abort(absl::UnavailableError("the ranks are stopping"));
  stopped_ = context_->board.WaitForExit(Clock::now() + options_.rank_timeout);
  for (int rank = 0; rank < static_cast<int>(threads_.size()); ++rank) {
    std::thread& thread = threads_[static_cast<size_t>(rank)];
    if (context_->board.HasLeft(rank)) {
      thread.join();
    } else {
      thread.detach();
    }
  }
  threads_.clear();
  return *stopped_;
}

int64_t ThreadWorkerGroup::allocated_bytes(int rank, MemoryKind kind) const {
  MOED_CHECK(context_ != nullptr, "nothing is allocated before the start");
  return context_->backends[static_cast<size_t>(rank)]->allocated_bytes(kind);
}

}  // namespace moed
