// The architecture of a model, as its config.json states it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/backend.h"
#include "kernels/core/dtype.h"

namespace moed {

// Every field that changes the maths is here; ParseModelConfig refuses by name what is not.
struct ModelConfig {
  std::string architecture;  // "MixtralForCausalLM"
  int64_t vocab_size = 0;
  int64_t hidden = 0;
  int64_t ffn = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t num_experts = 0;
  int64_t top_k = 0;
  RouterScoring router_scoring = RouterScoring::kTopKThenSoftmax;
  int64_t max_positions = 0;
  double rope_theta = 0;
  double rope_position_scale = 1;  // linear scaling: angle = position * scale * frequency
  int64_t sliding_window = 0;      // 0: none
  double rms_epsilon = 0;
  bool tie_word_embeddings = false;
  DType checkpoint_dtype = DType::kBFloat16;  // torch_dtype, what --dtype auto resolves from
  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;  // of config.json; generation_config.json may override
  // Fields that this version does not know and ignores, one sentence each, for the start log. A
  // field known to change the maths is never among them: it is honoured or refused.
  std::vector<std::string> warnings;

  int64_t q_features() const { return num_heads * head_dim; }
  int64_t kv_features() const { return num_kv_heads * head_dim; }
  int64_t qkv_features() const { return q_features() + 2 * kv_features(); }
  // KV cache of one token over all layers, keys and values.
  int64_t kv_bytes_per_token(DType dtype) const {
    return 2 * num_layers * kv_features() * DTypeBytes(dtype);
  }
};

// Sampling defaults of generation_config.json; unset where the file or the field is absent.
// `do_sample: false` is a temperature of 0.
struct GenerationDefaults {
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::vector<int32_t> eos_token_ids;  // replaces the config's when not empty
  std::vector<std::string> warnings;   // fields that are set and not honoured, one sentence each
};

// `file` names the source in errors. INVALID_ARGUMENT with file, field, expected and found for a
// malformed, unsupported or inconsistent config.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view file);
absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(absl::string_view json,
                                                           absl::string_view file);

}  // namespace moed
