#include "runtime/checkpoint/model_config.h"

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/config_field_rules.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/json_document.h"
#include "runtime/checkpoint/json_fields.h"
#include "runtime/checkpoint/rope_config.h"

namespace moed {
namespace {

// Far above any published model, and low enough that no product of the sizes below that this
// project forms (bytes of all weights, KV bytes of a full context) leaves 62 bits.
constexpr int64_t kMaxVocab = int64_t{1} << 22;
constexpr int64_t kMaxHidden = int64_t{1} << 16;
constexpr int64_t kMaxFfn = int64_t{1} << 18;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxExpertsOfAllLayers = int64_t{1} << 16;
constexpr int64_t kMaxPositions = int64_t{1} << 24;
static_assert(kMaxExpertsOfAllLayers * 3 * kMaxHidden * kMaxFfn <= int64_t{1} << 53);

absl::Status ParseArchitecture(const JsonFields& fields, ModelConfig& config) {
  const nlohmann::json* architectures = fields.Find("architectures");
  if (architectures == nullptr || !architectures->is_array() || architectures->size() != 1 ||
      (*architectures)[0] != "MixtralForCausalLM") {
    return fields.Refuse("architectures", "[\"MixtralForCausalLM\"]");
  }
  config.architecture = "MixtralForCausalLM";
  MOED_ASSIGN_OR_RETURN(const std::optional<std::string> model_type, fields.Text("model_type"));
  if (model_type.value_or("mixtral") != "mixtral") {
    return fields.Refuse("model_type", "\"mixtral\"");
  }
  MOED_ASSIGN_OR_RETURN(const std::optional<std::string> activation, fields.Text("hidden_act"));
  if (activation.value_or("silu") != "silu") {
    return fields.Refuse("hidden_act", "\"silu\" (no other activation is supported)");
  }
  return absl::OkStatus();
}

absl::Status ParseSizes(const JsonFields& fields, ModelConfig& config) {
  MOED_ASSIGN_OR_RETURN(config.vocab_size, fields.RequiredInteger("vocab_size", 1, kMaxVocab));
  MOED_ASSIGN_OR_RETURN(config.hidden, fields.RequiredInteger("hidden_size", 1, kMaxHidden));
  MOED_ASSIGN_OR_RETURN(config.ffn, fields.RequiredInteger("intermediate_size", 1, kMaxFfn));
  MOED_ASSIGN_OR_RETURN(config.num_layers,
                        fields.RequiredInteger("num_hidden_layers", 1, kMaxLayers));
  MOED_ASSIGN_OR_RETURN(config.num_experts,
                        fields.RequiredInteger("num_local_experts", 1, kMaxExperts));
  if (config.num_layers * config.num_experts > kMaxExpertsOfAllLayers) {
    return fields.Refuse("num_local_experts",
                         absl::StrCat("at most ", kMaxExpertsOfAllLayers / config.num_layers,
                                      " with ", config.num_layers, " layers"));
  }
  MOED_ASSIGN_OR_RETURN(config.top_k,
                        fields.RequiredInteger("num_experts_per_tok", 1, config.num_experts));
  MOED_ASSIGN_OR_RETURN(config.max_positions,
                        fields.RequiredInteger("max_position_embeddings", 1, kMaxPositions));
  return absl::OkStatus();
}

absl::Status ParseHeads(const JsonFields& fields, ModelConfig& config) {
  MOED_ASSIGN_OR_RETURN(config.num_heads,
                        fields.RequiredInteger("num_attention_heads", 1, kMaxHeads));
  // The library reads null as "as many as heads" and absence as 8: absence is too easy to get
  // wrong.
  if (!fields.object().contains("num_key_value_heads")) {
    return fields.Refuse("num_key_value_heads", "an integer or null");
  }
  MOED_ASSIGN_OR_RETURN(const std::optional<int64_t> num_kv_heads,
                        fields.Integer("num_key_value_heads", 1, config.num_heads));
  config.num_kv_heads = num_kv_heads.value_or(config.num_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    return fields.Refuse("num_key_value_heads",
                         absl::StrCat("a divisor of the ", config.num_heads, " attention heads"));
  }
  MOED_ASSIGN_OR_RETURN(const std::optional<int64_t> head_dim,
                        fields.Integer("head_dim", 2, kMaxHeadDim));
  if (!head_dim && config.hidden % config.num_heads != 0) {
    return fields.Refuse("head_dim",
                         absl::StrCat("a value, as the ", config.num_heads,
                                      " heads do not divide hidden_size ", config.hidden));
  }
  config.head_dim = head_dim.value_or(config.hidden / config.num_heads);
  if (config.head_dim % 2 != 0 || config.head_dim < 2 || config.head_dim > kMaxHeadDim) {
    return fields.Refuse("head_dim", absl::StrCat("an even number from 2 to ", kMaxHeadDim,
                                                  " (hidden_size / num_attention_heads is ",
                                                  config.hidden / config.num_heads, ")"));
  }
  return absl::OkStatus();
}

// Newer configs may repeat the window layer by layer; only the uniform case is one window.
absl::Status ParseSlidingWindow(const JsonFields& fields, ModelConfig& config) {
  MOED_ASSIGN_OR_RETURN(const std::optional<int64_t> window,
                        fields.Integer("sliding_window", 1, std::numeric_limits<int32_t>::max()));
  config.sliding_window = window.value_or(0);
  const nlohmann::json* layer_types = fields.Find("layer_types");
  if (layer_types == nullptr) return absl::OkStatus();
  const std::string expected = window ? "sliding_attention" : "full_attention";
  bool uniform = layer_types->is_array();
  if (uniform) {
    for (const nlohmann::json& type : *layer_types) uniform = uniform && type == expected;
  }
  if (!uniform) {
    return fields.Refuse("layer_types",
                         absl::StrCat("only \"", expected, "\" (mixed layers are not supported)"));
  }
  return absl::OkStatus();
}

absl::Status ParseDType(const JsonFields& fields, ModelConfig& config) {
  MOED_ASSIGN_OR_RETURN(const std::optional<std::string> old_name, fields.Text("torch_dtype"));
  MOED_ASSIGN_OR_RETURN(const std::optional<std::string> new_name, fields.Text("dtype"));
  if (old_name && new_name && *old_name != *new_name) {
    return fields.Refuse("dtype", "the same as torch_dtype");
  }
  const std::optional<std::string>& name = new_name ? new_name : old_name;
  if (!name) {
    config.checkpoint_dtype = DType::kFloat32;  // what the Hugging Face library assumes
    config.warnings.emplace_back("field 'torch_dtype' is absent: float32 is assumed");
    return absl::OkStatus();
  }
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (*name == DTypeName(dtype)) {
      config.checkpoint_dtype = dtype;
      return absl::OkStatus();
    }
  }
  return fields.Refuse(new_name ? "dtype" : "torch_dtype",
                       "\"float32\", \"bfloat16\" or \"float16\"");
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view json, absl::string_view file) {
  MOED_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJsonObject(json, file, JsonLimits{}));
  const JsonFields fields(document, file);
  ModelConfig config;
  MOED_RETURN_IF_ERROR(ParseArchitecture(fields, config));
  MOED_RETURN_IF_ERROR(CheckOtherFields(fields, config.warnings));
  MOED_RETURN_IF_ERROR(ParseSizes(fields, config));
  MOED_RETURN_IF_ERROR(ParseHeads(fields, config));
  MOED_RETURN_IF_ERROR(ParseSlidingWindow(fields, config));
  MOED_RETURN_IF_ERROR(ParseDType(fields, config));
  MOED_ASSIGN_OR_RETURN(const RopeConfig rope, ParseRopeConfig(fields, file));
  config.rope_theta = rope.theta;
  config.rope_position_scale = rope.position_scale;
  MOED_ASSIGN_OR_RETURN(const std::optional<double> epsilon,
                        fields.Number("rms_norm_eps", 1e-12, 1));
  if (!epsilon) return fields.Refuse("rms_norm_eps", "a number from 1e-12 to 1");
  config.rms_epsilon = *epsilon;
  MOED_ASSIGN_OR_RETURN(const std::optional<bool> tied, fields.Flag("tie_word_embeddings"));
  config.tie_word_embeddings = tied.value_or(false);
  MOED_ASSIGN_OR_RETURN(const std::optional<int64_t> bos_token_id,
                        fields.Integer("bos_token_id", 0, config.vocab_size - 1));
  if (bos_token_id) config.bos_token_id = static_cast<int32_t>(*bos_token_id);
  MOED_ASSIGN_OR_RETURN(config.eos_token_ids,
                        fields.TokenIds("eos_token_id", config.vocab_size - 1));
  for (std::string& warning : config.warnings) warning = absl::StrCat(file, ": ", warning);
  return config;
}

}  // namespace moed
