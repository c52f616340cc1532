// Fuzzes config.json and generation_config.json: what parses is within bounds that keep every
// later size product from wrapping, and can be planned. Input: the JSON text.
#include <cstddef>
#include <cstdint>

#include "kernels/core/check.h"
#include "runtime/checkpoint/load_plan.h"
#include "runtime/checkpoint/model_config.h"

namespace {

// Keeps a case quick: planning visits every tensor.
constexpr int64_t kMaxPlannedExperts = 256;

void CheckConfig(const moed::ModelConfig& config) {
  MOED_CHECK(config.vocab_size > 0 && config.hidden > 0 && config.ffn > 0, "sizes are positive");
  MOED_CHECK(config.top_k >= 1 && config.top_k <= config.num_experts, "top-k is of the experts");
  MOED_CHECK(config.num_heads % config.num_kv_heads == 0, "heads are grouped evenly");
  MOED_CHECK(config.head_dim % 2 == 0, "heads rotate in pairs");
  MOED_CHECK(config.rms_epsilon > 0 && config.rope_theta >= 1 && config.rope_position_scale > 0,
             "the numbers of the maths are usable");
  if (config.num_layers * config.num_experts > kMaxPlannedExperts) return;
  const auto placement = moed::ExpertPlacement::Even(static_cast<int>(config.num_layers),
                                                     static_cast<int>(config.num_experts), 3);
  const auto plan = moed::MakeLoadPlan(config, placement, nullptr, {});
  MOED_CHECK(plan.ok(), "a config without an index can be planned");
  MOED_CHECK(plan->num_active_parameters > 0 && plan->num_parameters >= plan->num_active_parameters,
             "no sum has wrapped");
  for (const moed::RankLoadPlan& rank : plan->ranks) {
    MOED_CHECK(rank.weight_bytes >= plan->replicated_bytes && rank.needed_bytes > 0,
               "no sum has wrapped");
  }
  MOED_CHECK(!moed::FormatLoadPlan(*plan).empty(), "a plan has a text");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view json(reinterpret_cast<const char*>(data), size);
  const auto config = moed::ParseModelConfig(json, "config.json");
  if (config.ok()) CheckConfig(*config);
  const auto defaults = moed::ParseGenerationDefaults(json, "generation_config.json");
  if (defaults.ok()) {
    MOED_CHECK(defaults->temperature.value_or(0) >= 0 && defaults->top_p.value_or(1) > 0 &&
                   defaults->top_p.value_or(1) <= 1 && defaults->top_k.value_or(0) >= 0,
               "defaults are within their ranges");
  }
  return 0;
}
