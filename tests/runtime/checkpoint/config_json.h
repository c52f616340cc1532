// config.json texts for tests.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace moed {

// Fields and their JSON values; an empty value leaves the field out.
using ConfigFields = std::map<std::string, std::string>;

inline std::string ConfigJson(const ConfigFields& fields) {
  std::string json = "{";
  for (const auto& [field, value] : fields) {
    if (value.empty()) continue;
    absl::StrAppend(&json, json.size() > 1 ? "," : "", "\"", field, "\":", value);
  }
  return json + "}";
}

// `changes` over a small config whose sizes divide nothing evenly: the awkward dummy of the tests.
inline std::string AwkwardConfigJson(const ConfigFields& changes = {}) {
  ConfigFields fields = {
      {"architectures", "[\"MixtralForCausalLM\"]"},
      {"model_type", "\"mixtral\""},
      {"hidden_act", "\"silu\""},
      {"vocab_size", "61"},
      {"hidden_size", "72"},
      {"intermediate_size", "40"},
      {"num_hidden_layers", "3"},
      {"num_attention_heads", "6"},
      {"num_key_value_heads", "3"},
      {"num_local_experts", "6"},
      {"num_experts_per_tok", "3"},
      {"max_position_embeddings", "50"},
      {"rope_theta", "10000.0"},
      {"rms_norm_eps", "1e-05"},
      {"tie_word_embeddings", "false"},
      {"sliding_window", "null"},
      {"bos_token_id", "1"},
      {"eos_token_id", "2"},
      {"torch_dtype", "\"bfloat16\""},
  };
  for (const auto& [field, value] : changes) fields[field] = value;
  return ConfigJson(fields);
}

}  // namespace moed
