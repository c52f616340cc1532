// A model's weights in device memory: what every rank holds, and each rank's experts.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "parallel/expert_placement.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/weight_source.h"

namespace moed {

struct LayerWeights {
  Buffer attention_norm;              // [hidden] float32
  std::unique_ptr<LinearWeight> qkv;  // [q_features + 2 kv_features, hidden]: q, then k, then v
  std::unique_ptr<LinearWeight> o;    // [hidden, q_features]
  Buffer ffn_norm;                    // [hidden] float32
  Buffer router;                      // [num_experts, hidden] float32
};

// Immutable once loaded; the rank threads of a process share one.
struct ReplicatedWeights {
  Buffer embedding;  // [vocab, hidden] act
  std::vector<LayerWeights> layers;
  Buffer final_norm;                      // [hidden] float32
  std::unique_ptr<LinearWeight> lm_head;  // [vocab, hidden]
  Buffer cos_sin;                         // [max_positions, head_dim] float32, RotaryCacheWriteArgs
};

// experts[layer][local_expert_id]; the order of ExpertPlacement::ExpertsOn(rank, layer).
struct ExpertWeights {
  std::vector<std::vector<std::unique_ptr<ExpertWeight>>> experts;
};

// Called with the bytes loaded so far and in total, on the loading thread. Returning false cancels
// the load, which then ends CANCELLED.
using LoadProgress = std::function<bool(int64_t loaded_bytes, int64_t total_bytes)>;

absl::StatusOr<std::unique_ptr<ReplicatedWeights>> LoadReplicatedWeights(
    const ModelConfig& config, WeightSource& source, Backend& backend,
    const LoadProgress& progress);

absl::StatusOr<std::unique_ptr<ExpertWeights>> LoadExpertWeights(const ModelConfig& config,
                                                                 const ExpertPlacement& placement,
                                                                 int rank, WeightSource& source,
                                                                 Backend& backend,
                                                                 const LoadProgress& progress);

}  // namespace moed
