#include "runtime/model/transformer.h"

#include <memory>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/model/activations.h"
#include "runtime/model/heartbeat.h"

namespace moed {

Transformer::Transformer(const TransformerParts& parts) : parts_(parts) {
  for (const auto& layer : parts.experts->experts) {
    std::vector<const ExpertWeight*>& weights = experts_.emplace_back();
    for (const std::unique_ptr<ExpertWeight>& expert : layer) weights.push_back(expert.get());
  }
  MOED_CHECK(static_cast<int64_t>(experts_.size()) == parts.config->num_layers &&
                 static_cast<int64_t>(parts.replicated->layers.size()) == parts.config->num_layers,
             "the weights are those of another model");
}

absl::Status Transformer::Forward(Stream& stream, const ForwardInput& input) {
  const ModelConfig& config = *parts_.config;
  EnterPart(-1, "embedding");
  parts_.backend->Embed(
      stream, {.input_tokens = input.input_tokens,
               .last_sampled = input.last_sampled,
               .table = parts_.replicated->embedding.View(parts_.backend->activation_dtype(),
                                                          {config.vocab_size, config.hidden}),
               .out = parts_.activations->residual(input.num_tokens())});
  for (int layer = 0; layer < config.num_layers; ++layer) {
    Attention(stream, layer, input);
    MOED_RETURN_IF_ERROR(MoeLayer(stream, layer, input));
  }
  return absl::OkStatus();
}

void Transformer::Head(Stream& stream, int64_t num_tokens, ConstTensorView logit_rows) {
  const int64_t num_logit_rows = logit_rows.dim(0);
  if (num_logit_rows == 0) return;
  EnterPart(-1, "head");
  const ModelConfig& config = *parts_.config;
  const TensorView rows = parts_.activations->head_rows(num_logit_rows);
  parts_.backend->RmsNorm(
      stream, {.x = parts_.activations->residual(num_tokens),
               .row_index = logit_rows,
               .weight = parts_.replicated->final_norm.View(DType::kFloat32, {config.hidden}),
               .epsilon = static_cast<float>(config.rms_epsilon),
               .out = rows});
  parts_.backend->Linear(stream, {.x = rows,
                                  .weight = parts_.replicated->lm_head.get(),
                                  .out = parts_.activations->logits(num_logit_rows)});
}

void Transformer::EnterPart(int layer, const char* part) {
  if (parts_.heartbeat != nullptr) parts_.heartbeat->EnterPart(layer, part);
}

}  // namespace moed
