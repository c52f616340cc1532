// What the front ends know of the model that is served.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/core/dtype.h"
#include "parallel/expert_placement.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/tokenizer/chat_format.h"
#include "runtime/tokenizer/tokenizer.h"
#include "server/state/request_limits.h"

namespace moed {

// What a rank holds. Bytes by MemoryKind.
struct RankDescription {
  std::array<int64_t, kNumMemoryKinds> memory_bytes = {};
};

// Immutable once shared; any thread.
struct ServedModel {
  std::string name;
  ModelConfig config;
  GenerationDefaults defaults;
  int32_t context_tokens = 0;  // a prompt may have; the lesser of positions and a rank's KV cache
  DType dtype = DType::kFloat32;
  int num_ranks = 1;
  int32_t block_tokens = 0;                  // token slots of a KV block
  std::string backend;                       // Backend::Description()
  std::vector<RankDescription> ranks;        // [num_ranks]
  std::optional<ExpertPlacement> placement;  // unset only before the ranks have started
  std::unique_ptr<Tokenizer> tokenizer;      // null: token ids only
  std::optional<ChatFormat> chat_format;     // refers to the tokenizer

  // The ids that end a continuation: generation_config.json's where it has some.
  const std::vector<int32_t>& eos_token_ids() const {
    return defaults.eos_token_ids.empty() ? config.eos_token_ids : defaults.eos_token_ids;
  }
  // What a request that leaves them open gets.
  float default_temperature() const { return defaults.temperature.value_or(1.0F); }
  int32_t default_top_k() const { return defaults.top_k.value_or(0); }
  float default_top_p() const { return defaults.top_p.value_or(1.0F); }
  float default_min_p() const { return defaults.min_p.value_or(0.0F); }

  // Experts that a request may send each token to.
  int32_t max_experts_per_token(const RequestLimits& limits) const {
    return limits.experts_per_token > 0 ? limits.experts_per_token
                                        : static_cast<int32_t>(config.top_k);
  }
};

}  // namespace moed
