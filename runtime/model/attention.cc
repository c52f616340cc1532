// The attention half of a layer (Vaswani et al. 2017; grouped queries, Ainslie et al. 2023).
#include <cmath>

#include "runtime/model/activations.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/transformer.h"

namespace moed {

void Transformer::Attention(Stream& stream, int layer, const ForwardInput& input) {
  EnterPart(layer, "attention");
  const ModelConfig& config = *parts_.config;
  const LayerWeights& weights = parts_.replicated->layers[layer];
  Backend& backend = *parts_.backend;
  const int64_t num_tokens = input.num_tokens();
  const TensorView residual = parts_.activations->residual(num_tokens);
  const TensorView normed = parts_.activations->normed(num_tokens);
  const TensorView qkv = parts_.activations->qkv(num_tokens);
  const TensorView q = parts_.activations->q(num_tokens);
  const TensorView out = parts_.activations->attention_out(num_tokens);
  const TensorView keys = parts_.kv_cache->keys(layer);
  const TensorView values = parts_.kv_cache->values(layer);

  backend.RmsNorm(stream, {.x = residual,
                           .row_index = {},
                           .weight = weights.attention_norm.View(DType::kFloat32, {config.hidden}),
                           .epsilon = static_cast<float>(config.rms_epsilon),
                           .out = normed});
  backend.Linear(stream, {.x = normed, .weight = weights.qkv.get(), .out = qkv});
  backend.RotaryCacheWrite(stream, {.qkv = qkv,
                                    .positions = input.positions,
                                    .slot_mapping = input.slot_mapping,
                                    .cos_sin = parts_.replicated->cos_sin.View(
                                        DType::kFloat32, {config.max_positions, config.head_dim}),
                                    .q = q,
                                    .k_cache = keys,
                                    .v_cache = values});
  backend.PagedAttention(stream, {.q = q,
                                  .k_cache = keys,
                                  .v_cache = values,
                                  .chunk_starts = input.chunk_starts,
                                  .context_lengths = input.context_lengths,
                                  .block_tables = input.block_tables,
                                  .scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim)),
                                  .sliding_window = static_cast<int32_t>(config.sliding_window),
                                  .out = out});
  backend.Linear(stream,
                 {.x = out, .weight = weights.o.get(), .accumulate = true, .out = residual});
}

}  // namespace moed
