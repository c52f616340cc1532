#include "runtime/checkpoint/expected_tensors.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace moed {

std::string LayerTensor(int64_t layer, absl::string_view module) {
  return absl::StrCat("model.layers.", layer, ".", module, ".weight");
}

std::string ExpertTensor(int64_t layer, int64_t expert, absl::string_view matrix) {
  return absl::StrCat("model.layers.", layer, ".block_sparse_moe.experts.", expert, ".", matrix,
                      ".weight");
}

void ForEachExpectedTensor(const ModelConfig& config,
                           absl::FunctionRef<void(const ExpectedTensor&)> visit) {
  const int64_t hidden = config.hidden;
  visit({std::string(kEmbeddingTensor), {config.vocab_size, hidden}});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const auto add = [&](absl::string_view module, std::vector<int64_t> shape, bool float32) {
      visit({LayerTensor(layer, module), std::move(shape), float32, layer});
    };
    add("input_layernorm", {hidden}, true);
    add("self_attn.q_proj", {config.q_features(), hidden}, false);
    add("self_attn.k_proj", {config.kv_features(), hidden}, false);
    add("self_attn.v_proj", {config.kv_features(), hidden}, false);
    add("self_attn.o_proj", {hidden, config.q_features()}, false);
    add("post_attention_layernorm", {hidden}, true);
    add("block_sparse_moe.gate", {config.num_experts, hidden}, true);
    for (int64_t expert = 0; expert < config.num_experts; ++expert) {
      visit({ExpertTensor(layer, expert, "w1"), {config.ffn, hidden}, false, layer, expert});
      visit({ExpertTensor(layer, expert, "w2"), {hidden, config.ffn}, false, layer, expert});
      visit({ExpertTensor(layer, expert, "w3"), {config.ffn, hidden}, false, layer, expert});
    }
  }
  visit({std::string(kFinalNormTensor), {hidden}, true});
  if (!config.tie_word_embeddings) {
    visit({std::string(kLmHeadTensor), {config.vocab_size, hidden}});
  }
}

ExtraTensor ClassifyExtraTensor(const ModelConfig& config, absl::string_view name) {
  if (absl::EndsWith(name, ".rotary_emb.inv_freq")) return ExtraTensor::kHarmless;
  if (config.tie_word_embeddings && name == kLmHeadTensor) return ExtraTensor::kHarmless;
  absl::string_view rest = name;
  if (absl::ConsumePrefix(&rest, "model.layers.")) {
    int64_t layer = 0;
    const bool beyond =
        absl::SimpleAtoi(rest.substr(0, rest.find('.')), &layer) && layer >= config.num_layers;
    return beyond ? ExtraTensor::kIgnored : ExtraTensor::kRefused;
  }
  const bool in_model = absl::StartsWith(name, "model.") || absl::StartsWith(name, "lm_head.");
  return in_model ? ExtraTensor::kRefused : ExtraTensor::kIgnored;
}

}  // namespace moed
