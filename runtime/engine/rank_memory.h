// What a group of ranks will take of a machine's memory, said before any of it is allocated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/dtype.h"
#include "parallel/expert_placement.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/engine/worker.h"

namespace moed {

// Of all ranks together, which share one copy of the replicated weights. Weights are those of
// LoadPlan, dense; the layout of a backend may pad.
// A sum that cannot be counted is kUncountableBytes (tensor_bytes.h).
struct GroupMemory {
  int num_ranks = 0;
  int64_t num_kv_blocks_per_rank = 0;
  int64_t replicated_weight_bytes = 0;
  int64_t expert_weight_bytes = 0;
  int64_t kv_cache_bytes = 0;
  int64_t activation_bytes = 0;
  int64_t exchange_bytes = 0;
  int64_t workspace_bytes = 0;

  int64_t total_bytes() const;
  // "replicated weights 1,024, expert weights 512, KV cache ..." in bytes.
  std::string Describe() const;
};

// How many blocks of KV cache fit `bytes`; 0 when none does.
int64_t NumKvBlocks(const ModelConfig& config, DType activation, int64_t block_size, int64_t bytes);

// `backend` and `limits` are as every rank's. `only_rank`: that one alone, without the others.
// INVALID_ARGUMENT as Worker::MemoryBytes.
absl::StatusOr<GroupMemory> PlanGroupMemory(const ModelConfig& config,
                                            const ExpertPlacement& placement,
                                            const Backend& backend, const WorkerLimits& limits,
                                            std::optional<int> only_rank = std::nullopt);

// RESOURCE_EXHAUSTED with the numbers by kind when the plan exceeds `available_bytes`.
absl::Status CheckMemoryFits(const GroupMemory& memory, int64_t available_bytes);

}  // namespace moed
