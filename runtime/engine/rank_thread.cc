#include "runtime/engine/rank_thread.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/engine/rank_communicator.h"

namespace moed {
namespace {

// What is thrown below becomes a status here, at the thread's boundary.
template <typename Body>
auto CatchAll(Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of host memory");
  } catch (const std::exception& thrown) {
    return absl::InternalError(absl::StrCat("exception: ", thrown.what()));
  } catch (...) {
    return absl::InternalError("an exception of unknown type");
  }
}

class RankMain {
 public:
  RankMain(RankThreadContext& context, int rank, std::unique_ptr<Communicator> end)
      : context_(context),
        rank_(rank),
        backend_(*context.backends[static_cast<size_t>(rank)]),
        heartbeat_(context.heartbeats[static_cast<size_t>(rank)]),
        communicator_(std::move(end), heartbeat_) {}

  // Loads this rank's weights and allocates its memory.
  absl::Status Start() {
    MOED_ASSIGN_OR_RETURN(const ReplicatedWeights* replicated, Replicated());
    MOED_ASSIGN_OR_RETURN(experts_, LoadExpertWeights(context_.config, context_.placement,
                                                      context_.first_rank + rank_, *context_.source,
                                                      backend_, ProgressOf("expert weights")));
    MOED_RETURN_IF_ERROR(Report("kv cache", 0));
    MOED_ASSIGN_OR_RETURN(worker_, Worker::Create({.config = &context_.config,
                                                   .placement = &context_.placement,
                                                   .replicated = replicated,
                                                   .experts = experts_.get(),
                                                   .backend = &backend_,
                                                   .communicator = &communicator_,
                                                   .heartbeat = &heartbeat_},
                                                  context_.limits));
    MOED_RETURN_IF_ERROR(Report("kv cache", 1));
    return Report("ready", 1);
  }

  // Runs steps until the board stops or one fails.
  void RunSteps() {
    RankBatch batch;
    while (context_.board.Take(rank_, batch)) {
      absl::StatusOr<RankResult> result = CatchAll([&] { return worker_->Step(batch); });
      if (!result.ok()) {
        const absl::Status failure = DescribeFailure(result.status());
        communicator_.Abort(failure);
        context_.board.Finish(rank_, failure);
        return;
      }
      context_.board.Finish(rank_, std::move(result));
    }
  }

 private:
  // Rank 0 loads what all ranks share.
  absl::StatusOr<const ReplicatedWeights*> Replicated() {
    constexpr const char* kPhase = "replicated weights";
    if (rank_ == 0) {
      context_.replicated.Publish(CatchAll([this] {
        return LoadReplicatedWeights(context_.config, *context_.source, backend_,
                                     ProgressOf(kPhase));
      }));
      return context_.replicated.Wait();
    }
    MOED_RETURN_IF_ERROR(Report(kPhase, 0));
    MOED_ASSIGN_OR_RETURN(const ReplicatedWeights* weights, context_.replicated.Wait());
    MOED_RETURN_IF_ERROR(Report(kPhase, 1));
    return weights;
  }

  LoadProgress ProgressOf(const char* phase) {
    return [this, phase](int64_t loaded_bytes, int64_t total_bytes) {
      const double fraction =
          total_bytes == 0 ? 1.0
                           : static_cast<double>(loaded_bytes) / static_cast<double>(total_bytes);
      return context_.progress.Report({.rank = rank_, .phase = phase, .fraction = fraction});
    };
  }

  absl::Status Report(const char* phase, double fraction) {
    if (context_.progress.Report({.rank = rank_, .phase = phase, .fraction = fraction})) {
      return absl::OkStatus();
    }
    return absl::CancelledError("the start was cancelled");
  }

  // The group's error names who is at fault; this rank's own does not yet.
  absl::Status DescribeFailure(const absl::Status& error) const {
    if (communicator_.failed()) return error;
    return absl::UnavailableError(
        absl::StrCat(DescribePlace(rank_, heartbeat_.Read()), ": ", error.message()));
  }

  RankThreadContext& context_;
  const int rank_;
  Backend& backend_;
  Heartbeat& heartbeat_;
  RankCommunicator communicator_;
  std::unique_ptr<ExpertWeights> experts_;
  std::unique_ptr<Worker> worker_;
};

}  // namespace

RankThreadContext::RankThreadContext(ModelConfig model, ExpertPlacement expert_placement, int first,
                                     int num_threads, WorkerLimits worker_limits,
                                     std::shared_ptr<WeightSource> weight_source)
    : config(std::move(model)),
      placement(std::move(expert_placement)),
      first_rank(first),
      limits(worker_limits),
      source(std::move(weight_source)),
      board(num_threads),
      heartbeats(static_cast<size_t>(num_threads)) {}

void SharedReplicatedWeights::Publish(absl::StatusOr<std::unique_ptr<ReplicatedWeights>> loaded) {
  MutexLock lock(mutex_);
  is_published_ = true;
  status_ = loaded.status();
  if (loaded.ok()) weights_ = *std::move(loaded);
  published_.NotifyAll();
}

absl::StatusOr<const ReplicatedWeights*> SharedReplicatedWeights::Wait() {
  MutexLock lock(mutex_);
  while (!is_published_) published_.Wait(mutex_);
  if (!status_.ok()) return status_;
  return weights_.get();
}

void StartProgress::Begin(const RankProgressCallback* callback) {
  MutexLock lock(mutex_);
  callback_ = callback;
}

void StartProgress::Finish() {
  MutexLock lock(mutex_);
  callback_ = nullptr;
}

bool StartProgress::Report(const RankProgress& progress) {
  if (cancelled_.load()) return false;
  MutexLock lock(mutex_);
  if (callback_ == nullptr || !*callback_ || (*callback_)(progress)) return true;
  cancelled_.store(true);
  return false;
}

void RunRankThread(const std::shared_ptr<RankThreadContext>& context, int rank,
                   std::unique_ptr<Communicator> end) {
  {
    RankMain rank_main(*context, rank, std::move(end));
    const absl::Status started = CatchAll([&] { return rank_main.Start(); });
    if (started.ok()) {
      context->board.Finish(rank, RankResult());
      rank_main.RunSteps();
    } else {
      context->board.Finish(rank, started);
      // The others need not load what will not run. After Finish, so that theirs is not the first
      // error.
      context->progress.Cancel();
    }
  }
  context->board.Leave(rank);
}

std::string DescribePlace(int rank, const Heartbeat::Reading& reading) {
  std::string text = absl::StrCat("rank ", rank);
  if (reading.layer >= 0) absl::StrAppend(&text, ", layer ", reading.layer);
  absl::StrAppend(&text, ", ", reading.part);
  if (reading.collective == nullptr) return absl::StrCat(text, ", before the first collective");
  return absl::StrCat(text, reading.in_collective ? ", in " : ", after ", reading.collective,
                      " of layer ", reading.collective_layer);
}

}  // namespace moed
