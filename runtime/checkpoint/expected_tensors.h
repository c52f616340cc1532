// The tensors that a config asks for, under their Hugging Face names (modeling_mixtral.py).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "runtime/checkpoint/model_config.h"

namespace moed {

inline constexpr absl::string_view kEmbeddingTensor = "model.embed_tokens.weight";
inline constexpr absl::string_view kFinalNormTensor = "model.norm.weight";
inline constexpr absl::string_view kLmHeadTensor = "lm_head.weight";

// LayerTensor(3, "self_attn.q_proj") is "model.layers.3.self_attn.q_proj.weight".
std::string LayerTensor(int64_t layer, absl::string_view module);
// ExpertTensor(3, 7, "w1") is "model.layers.3.block_sparse_moe.experts.7.w1.weight".
std::string ExpertTensor(int64_t layer, int64_t expert, absl::string_view matrix);

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
  bool float32_in_memory = false;  // norms and router; the others take the run's dtype
  int64_t layer = -1;              // -1: outside the layers
  int64_t expert = -1;             // -1: replicated on every rank

  int64_t num_elements() const {
    int64_t count = 1;
    for (const int64_t dim : shape) count *= dim;
    return count;
  }
};

// Visits every tensor once, in the order of the forward pass. A tied lm_head is not among them.
void ForEachExpectedTensor(const ModelConfig& config,
                           absl::FunctionRef<void(const ExpectedTensor&)> visit);

// What a tensor that the config does not ask for means.
enum class ExtraTensor {
  kHarmless,  // a buffer that older libraries stored, or the copy of a tied lm_head
  kIgnored,   // no part of the layers that run: said in a warning
  kRefused,   // a bias, norm, scale or expert inside the model: dropping it changes the maths
};
ExtraTensor ClassifyExtraTensor(const ModelConfig& config, absl::string_view name);

}  // namespace moed
