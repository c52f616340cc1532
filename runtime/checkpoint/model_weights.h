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

// What one load cost, for the start report.
struct LoadSummary {
  int64_t num_tensors = 0;   // read from the source
  int64_t source_bytes = 0;  // of those tensors, in the source's dtype
  int64_t device_bytes = 0;  // resident afterwards, in the backend's layout
};

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
  LoadSummary summary;
};

// experts[layer][local_expert_id]; the order of ExpertPlacement::ExpertsOn(rank, layer).
struct ExpertWeights {
  std::vector<std::vector<std::unique_ptr<ExpertWeight>>> experts;
  LoadSummary summary;
};

// Called on the loading thread before the first and after every tensor, with the bytes loaded so
// far and in total (parameters times the size of the config's dtype). Returning false cancels the
// load, which then ends CANCELLED. May be empty.
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
