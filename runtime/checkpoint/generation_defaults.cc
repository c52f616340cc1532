// ParseGenerationDefaults of model_config.h.
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/json_document.h"
#include "runtime/checkpoint/json_fields.h"
#include "runtime/checkpoint/model_config.h"

namespace moed {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxWarnings = 16;

// Read below, or about something else than which token comes next.
bool IsKnownField(absl::string_view field) {
  for (const absl::string_view known :
       {"_from_model_config", "bos_token_id", "cache_implementation", "do_sample", "eos_token_id",
        "min_p", "pad_token_id", "temperature", "top_k", "top_p", "transformers_version",
        "use_cache"}) {
    if (field == known) return true;
  }
  return false;
}

std::optional<float> ToFloat(std::optional<double> value) {
  if (!value) return std::nullopt;
  return static_cast<float>(*value);
}

}  // namespace

absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(absl::string_view json,
                                                           absl::string_view file) {
  MOED_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJsonObject(json, file, JsonLimits{}));
  const JsonFields fields(document, file);
  GenerationDefaults defaults;
  MOED_ASSIGN_OR_RETURN(const std::optional<double> temperature,
                        fields.Number("temperature", 0, 100));
  MOED_ASSIGN_OR_RETURN(const std::optional<int64_t> top_k, fields.Integer("top_k", 0, kMaxInt32));
  MOED_ASSIGN_OR_RETURN(const std::optional<double> top_p, fields.Number("top_p", 1e-6, 1));
  MOED_ASSIGN_OR_RETURN(const std::optional<double> min_p, fields.Number("min_p", 0, 1));
  MOED_ASSIGN_OR_RETURN(const std::optional<bool> do_sample, fields.Flag("do_sample"));
  defaults.temperature = ToFloat(temperature);
  defaults.top_p = ToFloat(top_p);
  defaults.min_p = ToFloat(min_p);
  if (top_k) defaults.top_k = static_cast<int32_t>(*top_k);
  if (!do_sample.value_or(true)) defaults.temperature = 0.0F;
  MOED_ASSIGN_OR_RETURN(defaults.eos_token_ids, fields.TokenIds("eos_token_id", kMaxInt32));
  for (const auto& [field, value] : document.items()) {
    if (IsKnownField(field) || value.is_null()) continue;
    if (defaults.warnings.size() == kMaxWarnings) break;
    defaults.warnings.push_back(
        absl::StrCat(file, ": field ", QuoteName(field), " is ignored: no such default"));
  }
  return defaults;
}

}  // namespace moed
