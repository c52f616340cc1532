// Ranks as threads of this process.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "parallel/communicator.h"
#include "parallel/communicator_group.h"
#include "parallel/expert_placement.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/weight_source.h"
#include "runtime/engine/rank_memory.h"
#include "runtime/engine/worker_group.h"

namespace moed {

struct RankThreadContext;

// Makes the device of one rank. Weights packed by one must serve all (CpuBackendOptions: one isa,
// one dtype, one thread pool), for the ranks share the replicated ones.
using BackendFactory = std::function<absl::StatusOr<std::unique_ptr<Backend>>(int rank)>;

struct ThreadWorkerGroupOptions {
  ModelConfig config;
  std::shared_ptr<WeightSource> weights;
  BackendFactory make_backend;
  CommunicatorGroupFactory make_group;  // unset: LocalGroup, ranks that share host memory
  int num_ranks = 1;
  std::optional<ExpertPlacement> placement;  // unset: ExpertPlacement::Even
  // One rank of a group that is not there, for step times; num_ranks is 1 then, and the group that
  // the engine sees has one rank (EmulatedCommunicator).
  struct EmulatedRank {
    int rank = 0;
    int num_ranks = 1;  // of the placement
  };
  std::optional<EmulatedRank> emulated;
  // Of every rank.
  int64_t block_size = 16;
  int64_t num_kv_blocks = 0;   // 0: as many as kv_cache_bytes holds
  int64_t kv_cache_bytes = 0;  // read only where num_kv_blocks is 0
  int32_t max_sequences_per_rank = 64;
  int32_t max_rows_per_step = 512;
  int32_t max_gather_rows = 64;  // 0: no step gathers; cut to max_rows_per_step
  // Experts that a sequence may ask for (SlotInit::experts_per_token): buffers and exchange are
  // sized for it. [ModelConfig::top_k, num_experts]; 0: ModelConfig::top_k.
  int32_t max_experts_per_token = 0;
  // Where not 0, the pairs of a rank's rows in a step that exceed this multiple of an expert's even
  // share are dropped, layer by layer (ExpertCapacity, LimitLoadArgs). Gives up the promise of the
  // same bits: who is dropped depends on the batch. >= 0.
  double capacity_factor = 0;
  // Whether every step's result carries its rows with their choices (RankResult::routing).
  bool trace_routing = false;
  // Memory that the group may take, compared with the plan before anything is allocated; unset: not
  // compared.
  std::optional<int64_t> available_memory_bytes;
  // How long a rank may take from one collective to the next before the group is given up. Wall
  // time of one layer's half, or of the last combine, the head, sampling and the start of the next
  // step, waits for compute permits that other ranks hold (ThreadPool) among it: with R ranks on
  // fewer threads up to R times what the rank alone would take.
  std::chrono::milliseconds rank_timeout{30'000};
};

// One thread a rank; one copy of the replicated weights, loaded by rank 0, while every rank loads
// its own experts. Collectives fail rank_timeout after the first rank waits; a step in which no
// rank waits fails when a rank has made no progress for a quarter longer.
class ThreadWorkerGroup final : public WorkerGroup {
 public:
  explicit ThreadWorkerGroup(ThreadWorkerGroupOptions options);
  // Stops the ranks. A thread that hangs is left behind with what it uses.
  ~ThreadWorkerGroup() override;

  // Also INVALID_ARGUMENT naming the option that is out of range.
  absl::StatusOr<WorkerGroupInfo> Start(const RankProgressCallback& progress) override;
  absl::Status Launch(std::vector<RankBatch> batches) override;
  absl::StatusOr<std::vector<RankResult>> Await() override;
  bool Stop() override;

  // After Start: what was planned, and the bytes that rank's backend holds of `kind`.
  const GroupMemory& memory() const { return memory_; }
  int64_t allocated_bytes(int rank, MemoryKind kind) const;

 private:
  absl::Status CheckOptions() const;
  int placement_ranks() const {
    return options_.emulated ? options_.emulated->num_ranks : options_.num_ranks;
  }
  absl::StatusOr<WorkerLimits> MakeLimits(DType activation) const;
  // The ranks' ends, before any thread runs.
  absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeEnds();
  absl::Status StartThreads(const RankProgressCallback& progress);
  // The rank that has made no progress for `patience`, as an error; OK while all that have not
  // finished move.
  absl::Status FindHungRank(std::chrono::steady_clock::time_point now);

  const ThreadWorkerGroupOptions options_;
  GroupMemory memory_;
  std::shared_ptr<RankThreadContext> context_;
  std::shared_ptr<CommunicatorGroup> group_;  // null for an emulated rank
  std::vector<std::thread> threads_;
  bool launched_ = false;
  std::optional<bool> stopped_;  // what Stop returned
  absl::Status fault_;           // of a step; for good
  // The watch over a running step, [num_ranks].
  struct Watch {
    uint64_t beats = 0;
    std::chrono::steady_clock::time_point since;
  };
  std::vector<Watch> watches_;
};

}  // namespace moed
