// The mixture-of-experts half of a layer (Jiang et al. 2024, "Mixtral of Experts", section 2.1).
#include <utility>

#include "kernels/core/status.h"
#include "runtime/model/activations.h"
#include "runtime/model/transformer.h"

namespace moed {

absl::Status Transformer::MoeLayer(Stream& stream, int layer, const ForwardInput& input) {
  EnterPart(layer, "experts");
  const ModelConfig& config = *parts_.config;
  const LayerWeights& weights = parts_.replicated->layers[layer];
  Backend& backend = *parts_.backend;
  const int64_t num_tokens = input.num_tokens();
  const TensorView residual = parts_.activations->residual(num_tokens);
  const TensorView normed = parts_.activations->normed(num_tokens);
  const TensorView routed_ids = parts_.activations->layer_ids(layer, num_tokens);
  const TensorView topk_weights = parts_.activations->topk_weights(num_tokens);
  const TensorView layer_counts = parts_.activations->expert_counts().Rows(layer, 1);

  backend.RmsNorm(stream, {.x = residual,
                           .row_index = {},
                           .weight = weights.ffn_norm.View(DType::kFloat32, {config.hidden}),
                           .epsilon = static_cast<float>(config.rms_epsilon),
                           .out = normed});
  backend.Route(
      stream, {.x = normed,
               .weight = weights.router.View(DType::kFloat32, {config.num_experts, config.hidden}),
               .scoring = config.router_scoring,
               .num_choices = input.num_choices,
               .topk_ids = routed_ids,
               .topk_weights = topk_weights});
  backend.CountChoices(
      stream, {.topk_ids = routed_ids,
               .counts = TensorView(layer_counts.raw(), DType::kInt64, {config.num_experts})});
  // What is counted and reported is what the router chose.
  TensorView kept_ids = routed_ids;
  if (parts_.activations->limits().limits_load) {
    kept_ids = parts_.activations->kept_ids(num_tokens);
    backend.CopyOnDevice(stream, routed_ids, kept_ids);
    backend.LimitLoad(stream, {.capacity = input.expert_capacity,
                               .num_experts = config.num_experts,
                               .topk_ids = kept_ids,
                               .dropped = parts_.activations->dropped(num_tokens)});
  }

  MOED_ASSIGN_OR_RETURN(
      DispatchHandle handle,
      parts_.dispatcher->Dispatch(stream, input.step, layer, input.exchange, normed, kept_ids));
  backend.ExpertFfn(stream, {.x = handle.rows(),
                             .experts = experts_[layer],
                             .expert_offsets = handle.expert_offsets(),
                             .row_index = handle.row_index(),
                             .out_index = handle.out_index(),
                             .out = handle.expert_output()});
  return parts_.dispatcher->Combine(stream, std::move(handle), topk_weights, residual);
}

}  // namespace moed
