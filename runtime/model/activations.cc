#include "runtime/model/activations.h"

#include <array>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/model/tensor_bytes.h"

namespace moed {
namespace {

// Bytes of each buffer; Bytes sums them and Create allocates them, so that they cannot disagree.
struct Sizes {
  int64_t residual, normed, qkv, q, attention_out, routed_ids, kept_ids, dropped, topk_weights,
      head_rows, logits, expert_counts;
};

Sizes SizesOf(const ModelConfig& config, DType act, const ActivationLimits& limits) {
  constexpr DType kF32 = DType::kFloat32;
  const int64_t rows = limits.max_rows;
  const int64_t logit_rows = limits.max_logit_rows;
  const int64_t width = limits.max_experts_per_token;
  const int64_t dropping_rows = limits.limits_load ? rows : 0;
  return {
      .residual = TensorBytes(kF32, {rows, config.hidden}),
      .normed = TensorBytes(act, {rows, config.hidden}),
      .qkv = TensorBytes(kF32, {rows, config.qkv_features()}),
      .q = TensorBytes(kF32, {rows, config.q_features()}),
      .attention_out = TensorBytes(act, {rows, config.q_features()}),
      .routed_ids = TensorBytes(DType::kInt32, {config.num_layers, rows, width}),
      .kept_ids = TensorBytes(DType::kInt32, {dropping_rows, width}),
      .dropped = TensorBytes(DType::kInt32, {dropping_rows}),
      .topk_weights = TensorBytes(kF32, {rows, width}),
      .head_rows = TensorBytes(act, {logit_rows, config.hidden}),
      .logits = TensorBytes(kF32, {logit_rows, config.vocab_size}),
      .expert_counts = TensorBytes(DType::kInt64, {config.num_layers, config.num_experts}),
  };
}

}  // namespace

int64_t Activations::Bytes(const ModelConfig& config, DType activation,
                           const ActivationLimits& limits) {
  const Sizes sizes = SizesOf(config, activation, limits);
  int64_t total = 0;
  for (const int64_t bytes : {sizes.residual, sizes.normed, sizes.qkv, sizes.q, sizes.attention_out,
                              sizes.routed_ids, sizes.kept_ids, sizes.dropped, sizes.topk_weights,
                              sizes.head_rows, sizes.logits, sizes.expert_counts}) {
    total = AddBytes(total, bytes);
  }
  return total;
}

absl::StatusOr<std::unique_ptr<Activations>> Activations::Create(Backend& backend,
                                                                 const ModelConfig& config,
                                                                 const ActivationLimits& limits) {
  MOED_CHECK(limits.max_rows > 0 && limits.max_logit_rows > 0 && limits.max_experts_per_token > 0,
             "a step has rows, and a row has experts");
  auto made = std::unique_ptr<Activations>(new Activations());
  made->act_ = backend.activation_dtype();
  made->limits_ = limits;
  made->hidden_ = config.hidden;
  made->qkv_features_ = config.qkv_features();
  made->num_heads_ = config.num_heads;
  made->head_dim_ = config.head_dim;
  made->num_layers_ = config.num_layers;
  made->num_experts_ = config.num_experts;
  made->vocab_ = config.vocab_size;
  const Sizes sizes = SizesOf(config, made->act_, limits);
  const std::array<std::pair<Buffer*, int64_t>, 12> buffers{{
      {&made->residual_, sizes.residual},
      {&made->normed_, sizes.normed},
      {&made->qkv_, sizes.qkv},
      {&made->q_, sizes.q},
      {&made->attention_out_, sizes.attention_out},
      {&made->routed_ids_, sizes.routed_ids},
      {&made->kept_ids_, sizes.kept_ids},
      {&made->dropped_, sizes.dropped},
      {&made->topk_weights_, sizes.topk_weights},
      {&made->head_rows_, sizes.head_rows},
      {&made->logits_, sizes.logits},
      {&made->expert_counts_, sizes.expert_counts},
  }};
  for (const auto& [buffer, bytes] : buffers) {
    MOED_ASSIGN_OR_RETURN(*buffer, backend.Allocate(MemoryKind::kActivations, bytes));
  }
  return made;
}

TensorView Activations::residual(int64_t rows) const {
  return residual_.View(DType::kFloat32, {rows, hidden_});
}
TensorView Activations::normed(int64_t rows) const { return normed_.View(act_, {rows, hidden_}); }
TensorView Activations::qkv(int64_t rows) const {
  return qkv_.View(DType::kFloat32, {rows, qkv_features_});
}
TensorView Activations::q(int64_t rows) const {
  return q_.View(DType::kFloat32, {rows, num_heads_, head_dim_});
}
TensorView Activations::attention_out(int64_t rows) const {
  return attention_out_.View(act_, {rows, num_heads_ * head_dim_});
}
TensorView Activations::routed_ids(int64_t rows) const {
  return routed_ids_.View(DType::kInt32, {num_layers_, rows, limits_.max_experts_per_token});
}
TensorView Activations::layer_ids(int layer, int64_t rows) const {
  const TensorView ids = routed_ids(rows).Rows(layer, 1);
  return TensorView(ids.raw(), DType::kInt32, {rows, limits_.max_experts_per_token});
}
TensorView Activations::kept_ids(int64_t rows) const {
  return kept_ids_.View(DType::kInt32, {rows, limits_.max_experts_per_token});
}
TensorView Activations::dropped(int64_t rows) const { return dropped_.View(DType::kInt32, {rows}); }
TensorView Activations::topk_weights(int64_t rows) const {
  return topk_weights_.View(DType::kFloat32, {rows, limits_.max_experts_per_token});
}
TensorView Activations::head_rows(int64_t rows) const {
  return head_rows_.View(act_, {rows, hidden_});
}
TensorView Activations::logits(int64_t rows) const {
  return logits_.View(DType::kFloat32, {rows, vocab_});
}
TensorView Activations::expert_counts() const {
  return expert_counts_.View(DType::kInt64, {num_layers_, num_experts_});
}

}  // namespace moed
