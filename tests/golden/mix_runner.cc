#include "tests/golden/mix_runner.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/mutex.h"
#include "kernels/core/status.h"
#include "kernels/core/thread_pool.h"
#include "runtime/engine/engine_impl.h"
#include "runtime/engine/thread_worker_group.h"

namespace moed {
namespace {

// Watches the batches of a group of rank threads, and says when a step begins. What it counts
// belongs to the engine's thread until the engine is gone.
class WatchedGroup final : public WorkerGroup {
 public:
  struct Log {
    MixCounts counts;
    std::string violation;
    std::function<void(uint64_t step)> on_launch;
  };

  WatchedGroup(ThreadWorkerGroupOptions options, std::shared_ptr<Log> log)
      : config_(options.config), group_(std::move(options)), log_(std::move(log)) {}

  absl::StatusOr<WorkerGroupInfo> Start(const RankProgressCallback& progress) override {
    return group_.Start(progress);
  }

  absl::Status Launch(std::vector<RankBatch> batches) override {
    expected_pairs_.clear();
    for (size_t rank = 0; rank < batches.size(); ++rank) {
      Watch(rank, batches[rank]);
    }
    ++log_->counts.steps;
    const uint64_t step = batches.front().step;
    const absl::Status launched = group_.Launch(std::move(batches));
    log_->on_launch(step);
    return launched;
  }

  absl::StatusOr<std::vector<RankResult>> Await() override {
    MOED_ASSIGN_OR_RETURN(std::vector<RankResult> results, group_.Await());
    for (size_t rank = 0; rank < results.size(); ++rank) Check(rank, results[rank]);
    return results;
  }

  bool Stop() override { return group_.Stop(); }

 private:
  void Watch(size_t rank, const RankBatch& batch) {
    MixCounts& counts = log_->counts;
    counts.rows += batch.num_rows();
    counts.block_copies += static_cast<int64_t>(batch.block_copies.size());
    std::map<int32_t, bool> is_new;
    for (const SlotInit& init : batch.admitted) {
      experts_per_token_[{rank, init.slot}] =
          init.experts_per_token > 0 ? init.experts_per_token : config_.top_k;
      is_new[init.slot] = true;
    }
    int64_t pairs = 0;
    for (const SequenceChunk& chunk : batch.chunks) {
      counts.forks += static_cast<int64_t>(chunk.fork_slots.size());
      if (is_new[chunk.slot] && chunk.start_position > 0) ++counts.cache_hits;
      pairs += static_cast<int64_t>(chunk.tokens.size()) * experts_per_token_[{rank, chunk.slot}];
    }
    expected_pairs_.push_back(pairs);
  }

  // Every layer's choices are those of the rows that were computed.
  void Check(size_t rank, const RankResult& result) {
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      int64_t pairs = 0;
      for (int64_t expert = 0; expert < config_.num_experts; ++expert) {
        pairs += result.expert_counts[static_cast<size_t>(layer * config_.num_experts + expert)];
      }
      if (pairs == expected_pairs_[rank] || !log_->violation.empty()) continue;
      log_->violation = absl::StrCat("step ", result.step, ", rank ", rank, ", layer ", layer, ": ",
                                     pairs, " choices for ", expected_pairs_[rank]);
    }
  }

  const ModelConfig config_;
  ThreadWorkerGroup group_;
  const std::shared_ptr<Log> log_;
  std::map<std::pair<size_t, int32_t>, int64_t> experts_per_token_;  // by rank and slot
  std::vector<int64_t> expected_pairs_;  // [num_ranks] of a layer, in the step that runs
};

// Submits and cancels by step, and takes what comes. Calls the engine with its lock held, and is
// never called with the engine's.
class MixClients {
 public:
  explicit MixClients(const RequestMix& mix) : mix_(mix), outputs_(mix.requests.size()) {
    for (size_t i = 0; i < outputs_.size(); ++i) {
      outputs_[i].choices.resize(static_cast<size_t>(mix.requests[i].request.sampling.n));
    }
  }

  // On the engine's thread, in every step.
  void AtStep(Engine& engine, uint64_t step) {
    MutexLock lock(mutex_);
    SubmitDue(engine, step);
    for (size_t i = 0; i < num_submitted_; ++i) {
      if (mix_.requests[i].cancelled_in_step != step) continue;
      engine.Cancel(mix_.requests[i].request.request_id, absl::CancelledError("by its client"));
    }
  }

  // Until every request has ended.
  void Run(Engine& engine) {
    MutexLock lock(mutex_);
    while (true) {
      while (num_ended_ < num_submitted_) ended_.Wait(mutex_);
      if (num_submitted_ == mix_.requests.size()) return;
      // Nothing runs, and so no step comes.
      SubmitNext(engine);
    }
  }

  std::vector<MixOutput> TakeOutputs() {
    MutexLock lock(mutex_);
    return std::move(outputs_);
  }

 private:
  class Sink final : public GenerationSink {
   public:
    Sink(MixClients& clients, size_t request) : clients_(clients), request_(request) {}
    bool OnDelta(GenerationDelta delta) override {
      clients_.Take(request_, std::move(delta));
      return true;
    }
    void OnFinish(const GenerationFinish& finish) override {
      clients_.TakeEnd(request_, finish.status);
    }

   private:
    MixClients& clients_;
    const size_t request_;
  };

  void SubmitDue(Engine& engine, uint64_t step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (num_submitted_ < mix_.requests.size() &&
           mix_.requests[num_submitted_].arrives_in_step <= step) {
      SubmitNext(engine);
    }
  }
  void SubmitNext(Engine& engine) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const size_t i = num_submitted_++;
    const absl::Status status =
        engine.Submit(mix_.requests[i].request, std::make_shared<Sink>(*this, i));
    if (status.ok()) return;
    outputs_[i].status = status;
    ++num_ended_;
  }
  void Take(size_t request, GenerationDelta delta) {
    MutexLock lock(mutex_);
    MixOutput& output = outputs_[request];
    MixChoice& choice = output.choices[static_cast<size_t>(delta.choice)];
    const auto append = [](const auto& from, auto& to) {
      to.insert(to.end(), from.begin(), from.end());
    };
    choice.text += delta.text;
    append(delta.token_ids, choice.token_ids);
    append(delta.logprobs, choice.logprobs);
    append(delta.routed_experts, choice.routed_experts);
    if (delta.finish) choice.finish = delta.finish;
    if (delta.prompt) output.prompt = delta.prompt;
  }
  void TakeEnd(size_t request, const absl::Status& status) {
    MutexLock lock(mutex_);
    outputs_[request].status = status;
    ++num_ended_;
    ended_.NotifyAll();
  }

  const RequestMix& mix_;
  Mutex mutex_;
  CondVar ended_;
  std::vector<MixOutput> outputs_ ABSL_GUARDED_BY(mutex_);
  size_t num_submitted_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t num_ended_ ABSL_GUARDED_BY(mutex_) = 0;
};

ThreadWorkerGroupOptions GroupOptions(const MixEngine& engine, const GoldenModel& model) {
  ThreadWorkerGroupOptions options;
  options.config = model.config;
  options.weights = model.weights;
  const CpuBackendOptions backend{.isa = engine.isa,
                                  .activation_dtype = engine.dtype,
                                  .pool = std::make_shared<ThreadPool>(engine.num_threads)};
  options.make_backend = [backend](int) { return MakeCpuBackend(backend); };
  options.num_ranks = engine.num_ranks;
  options.block_size = engine.block_size;
  options.num_kv_blocks = engine.num_kv_blocks;
  options.max_sequences_per_rank = engine.max_sequences;
  options.max_rows_per_step = engine.token_budget;
  options.max_gather_rows = engine.max_gather_rows;
  options.max_experts_per_token = engine.max_experts_per_token;
  options.rank_timeout = std::chrono::minutes(5);
  return options;
}

std::string FindLeak(const EngineStats& stats) {
  if (stats.requests_running != 0 || stats.requests_waiting != 0) return "sequences are left";
  for (size_t rank = 0; rank < stats.free_kv_blocks.size(); ++rank) {
    if (stats.free_kv_blocks[rank] == stats.total_kv_blocks[rank]) continue;
    return absl::StrCat(stats.free_kv_blocks[rank], " of ", stats.total_kv_blocks[rank],
                        " blocks of rank ", rank, " are free at the end");
  }
  return "";
}

}  // namespace

void MixCounts::Add(const MixCounts& other) {
  steps += other.steps;
  rows += other.rows;
  preemptions += other.preemptions;
  prompt_tokens += other.prompt_tokens;
  cached_tokens += other.cached_tokens;
  cache_hits += other.cache_hits;
  forks += other.forks;
  block_copies += other.block_copies;
}

absl::StatusOr<MixRun> RunMix(const RequestMix& mix, const GoldenModel& model,
                              const Tokenizer& tokenizer) {
  const auto log = std::make_shared<WatchedGroup::Log>();
  auto group = std::make_unique<WatchedGroup>(GroupOptions(mix.engine, model), log);
  MOED_ASSIGN_OR_RETURN(const WorkerGroupInfo info, group->Start(nullptr));

  MixClients clients(mix);
  std::atomic<int64_t> num_steps = 0;
  EngineOptions options;
  options.exchange = mix.engine.exchange;
  options.prefix_cache = mix.engine.prefix_cache;
  options.priority_ageing = 5 * kMixStepTime;
  options.now = [&num_steps] { return TimePoint(num_steps.load() * kMixStepTime); };
  std::unique_ptr<Engine> engine;
  // The first step comes after the first Submit, and so after `engine` is set.
  log->on_launch = [&clients, &engine, &num_steps](uint64_t step) {
    ++num_steps;
    clients.AtStep(*engine, step);
  };
  MOED_ASSIGN_OR_RETURN(engine, MakeEngine(options, std::move(group), info, &tokenizer));
  clients.Run(*engine);

  MixRun run;
  const EngineStats stats = engine->Stats();
  run.violation = FindLeak(stats);
  engine.reset();
  run.outputs = clients.TakeOutputs();
  run.counts = log->counts;
  run.counts.preemptions = stats.counters.preemptions;
  run.counts.prompt_tokens = stats.counters.prompt_tokens;
  run.counts.cached_tokens = stats.counters.cached_tokens;
  if (run.violation.empty()) run.violation = log->violation;
  return run;
}

}  // namespace moed
