// What loading a model would cost, worked out from config and index alone: `moed --dry-run`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/core/dtype.h"
#include "parallel/expert_placement.h"
#include "runtime/checkpoint/checkpoint_index.h"
#include "runtime/checkpoint/model_config.h"

namespace moed {

struct LoadPlanOptions {
  DType dtype = DType::kBFloat16;  // of activations, KV cache, matrices and embedding
  int64_t block_size = 16;         // token slots of a KV block, >= 1
  // Memory that one rank may use; absent: KV blocks are priced, not counted.
  std::optional<int64_t> memory_budget_bytes = std::nullopt;
  int64_t other_bytes = 0;  // of one rank's budget for activations, exchange and workspace
  // Rank threads of one process hold the replicated weights once: each rank is then charged its
  // share, rounded up.
  bool ranks_share_replicated = false;
};

struct RankLoadPlan {
  int64_t num_experts = 0;  // over all layers
  int64_t expert_bytes = 0;
  int64_t weight_bytes = 0;      // experts and replicated weights (or the share of them)
  int64_t checkpoint_bytes = 0;  // read from the checkpoint when this rank loads alone
  std::vector<int> shards;       // read by this rank: places in LoadPlan::shards
  // With a budget: whether weights, rotary table and other bytes fit; blocks and tokens after them.
  int64_t needed_bytes = 0;  // without any KV block
  bool fits = true;
  int64_t num_kv_blocks = 0;
  int64_t num_kv_tokens = 0;
};

// Sizes are those of dense tensors, as the loader allocates them; a backend may add padding.
struct LoadPlan {
  ModelConfig config;
  LoadPlanOptions options;
  int64_t num_parameters = 0;
  int64_t num_active_parameters = 0;  // all but the experts that a token does not choose
  int64_t replicated_bytes = 0;       // norms and router in float32; a tied head counts twice
  int64_t rotary_bytes = 0;           // [max_positions, head_dim] float32, once per process
  int64_t one_expert_bytes = 0;
  int64_t all_expert_bytes = 0;
  int64_t kv_block_bytes = 0;
  int64_t checkpoint_bytes = 0;     // of all tensors in the checkpoint's dtype
  std::vector<std::string> shards;  // empty without an index
  std::vector<RankLoadPlan> ranks;
  std::vector<std::string> warnings;
};

// Pure: reads no file, and the shards need not exist. `index` may be null (dummy weights).
// INVALID_ARGUMENT naming the tensors where the index lacks one that the config asks for, holds one
// that must not be ignored, or where placement and config disagree on layers and experts.
absl::StatusOr<LoadPlan> MakeLoadPlan(const ModelConfig& config, const ExpertPlacement& placement,
                                      const CheckpointIndex* index, const LoadPlanOptions& options);

// The plan for a person to read: plain text of at most 100 columns, lines end in '\n'. GB and MB
// are decimal.
std::string FormatLoadPlan(const LoadPlan& plan);

}  // namespace moed
