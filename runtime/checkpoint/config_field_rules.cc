#include "runtime/checkpoint/config_field_rules.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"

namespace moed {
namespace {

constexpr size_t kMaxWarnings = 16;

// The only value under which a field changes nothing, besides null and absence.
enum class Neutral { kFalse, kTrue, kZero, kOne, kEmpty, kSoftmax };

struct Rule {
  absl::string_view field;
  Neutral neutral;
};

constexpr Rule kRules[] = {
    {"add_bias_linear", Neutral::kFalse},
    {"add_cross_attention", Neutral::kFalse},
    {"alibi", Neutral::kFalse},
    {"attention_bias", Neutral::kFalse},
    {"attention_chunk_size", Neutral::kZero},
    {"attention_multiplier", Neutral::kZero},
    {"attention_out_bias", Neutral::kFalse},
    {"attn_logit_softcapping", Neutral::kZero},
    {"bias", Neutral::kFalse},
    {"clip_qkv", Neutral::kZero},
    {"compression_config", Neutral::kEmpty},
    {"decoder_sparse_step", Neutral::kOne},
    {"embedding_multiplier", Neutral::kOne},
    {"final_logit_softcapping", Neutral::kZero},
    {"first_k_dense_replace", Neutral::kZero},
    {"is_encoder_decoder", Neutral::kFalse},
    {"lm_head_bias", Neutral::kFalse},
    {"logit_scale", Neutral::kOne},
    {"logits_scaling", Neutral::kOne},
    {"mlp_bias", Neutral::kFalse},
    {"mlp_only_layers", Neutral::kEmpty},
    {"moe_intermediate_size", Neutral::kZero},
    {"n_group", Neutral::kOne},
    {"n_shared_experts", Neutral::kZero},
    {"norm_topk_prob", Neutral::kTrue},
    {"num_shared_experts", Neutral::kZero},
    {"partial_rotary_factor", Neutral::kOne},
    {"pruned_heads", Neutral::kEmpty},
    {"qk_layernorm", Neutral::kFalse},
    {"qk_norm", Neutral::kFalse},
    {"qkv_bias", Neutral::kFalse},
    {"quantization_config", Neutral::kEmpty},
    {"query_pre_attn_scalar", Neutral::kZero},
    {"residual_multiplier", Neutral::kOne},
    {"rope_interleaved", Neutral::kFalse},
    {"rotary_pct", Neutral::kOne},
    {"routed_scaling_factor", Neutral::kOne},
    {"router_bias", Neutral::kFalse},
    {"scoring_func", Neutral::kSoftmax},
    {"shared_expert_intermediate_size", Neutral::kZero},
    {"topk_group", Neutral::kOne},
    {"use_bias", Neutral::kFalse},
    {"use_parallel_residual", Neutral::kFalse},
    {"use_qk_norm", Neutral::kFalse},
    {"use_sliding_window", Neutral::kTrue},
};

// Read by ParseModelConfig, or without effect on what inference computes. Sorted.
constexpr absl::string_view kKnownFields[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_dropout",
    "hidden_size",
    "id2label",
    "initializer_range",
    "intermediate_size",
    "is_decoder",
    "label2id",
    "layer_types",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sliding_window",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_bfloat16",
    "use_cache",
    "vocab_size",
};
static_assert(std::is_sorted(std::begin(kKnownFields), std::end(kKnownFields)));

bool IsNeutral(const nlohmann::json& value, Neutral neutral) {
  switch (neutral) {
    case Neutral::kFalse:
      return value.is_boolean() && !value.get<bool>();
    case Neutral::kTrue:
      return value.is_boolean() && value.get<bool>();
    case Neutral::kZero:
      return value.is_number() && value.get<double>() == 0;
    case Neutral::kOne:
      return value.is_number() && value.get<double>() == 1;
    case Neutral::kEmpty:
      return (value.is_object() || value.is_array()) && value.empty();
    case Neutral::kSoftmax:
      return value.is_string() && value.get_ref<const std::string&>() == "softmax";
  }
  return false;
}

absl::string_view NeutralText(Neutral neutral) {
  switch (neutral) {
    case Neutral::kFalse:
      return "false (this is not supported)";
    case Neutral::kTrue:
      return "true (anything else is not supported)";
    case Neutral::kZero:
      return "null or 0 (this is not supported)";
    case Neutral::kOne:
      return "1 (anything else is not supported)";
    case Neutral::kEmpty:
      return "null or empty (this is not supported)";
    case Neutral::kSoftmax:
      return "\"softmax\" (anything else is not supported)";
  }
  return "";
}

}  // namespace

absl::Status CheckOtherFields(const JsonFields& fields, std::vector<std::string>& warnings) {
  for (const Rule& rule : kRules) {
    const nlohmann::json* value = fields.Find(rule.field);
    if (value != nullptr && !IsNeutral(*value, rule.neutral)) {
      return fields.Refuse(rule.field, NeutralText(rule.neutral));
    }
  }
  size_t num_unknown = 0;
  for (const auto& [name, value] : fields.object().items()) {
    const absl::string_view field = name;
    const bool known =
        std::binary_search(std::begin(kKnownFields), std::end(kKnownFields), field) ||
        std::any_of(std::begin(kRules), std::end(kRules),
                    [&](const Rule& rule) { return rule.field == field; });
    if (known || value.is_null()) continue;
    if (++num_unknown <= kMaxWarnings) {
      warnings.push_back(absl::StrCat("field ", QuoteName(field), " is unknown and ignored"));
    }
  }
  if (num_unknown > kMaxWarnings) {
    warnings.push_back(
        absl::StrCat(num_unknown - kMaxWarnings, " more unknown fields are ignored"));
  }
  return absl::OkStatus();
}

}  // namespace moed
