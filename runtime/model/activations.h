// The named buffers of a forward pass, allocated once for the largest step.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/dtype.h"
#include "kernels/core/tensor_view.h"
#include "runtime/checkpoint/model_config.h"

namespace moed {

struct ActivationLimits {
  int64_t max_rows = 0;               // rows of one step on this rank, > 0
  int64_t max_logit_rows = 0;         // rows with logits at a time, > 0
  int64_t max_experts_per_token = 0;  // the width of the choices, > 0
  bool limits_load = false;           // whether pairs are dropped: Transformer's capacity factor
};

// One rank's. Each accessor views the first rows of its buffer, so that a smaller step uses the
// same addresses. `normed` serves attention, then the experts; all others have one use.
class Activations {
 public:
  // Device memory that Create takes (MemoryKind::kActivations); at most kUncountableBytes.
  static int64_t Bytes(const ModelConfig& config, DType activation, const ActivationLimits& limits);

  // Errors: those of Backend::Allocate.
  static absl::StatusOr<std::unique_ptr<Activations>> Create(Backend& backend,
                                                             const ModelConfig& config,
                                                             const ActivationLimits& limits);

  const ActivationLimits& limits() const { return limits_; }

  TensorView residual(int64_t rows) const;       // [rows, hidden] float32
  TensorView normed(int64_t rows) const;         // [rows, hidden] act
  TensorView qkv(int64_t rows) const;            // [rows, qkv_features] float32
  TensorView q(int64_t rows) const;              // [rows, num_heads, head_dim] float32
  TensorView attention_out(int64_t rows) const;  // [rows, num_heads * head_dim] act
  // Every layer's choices of the step, those dropped included: [num_layers, rows, width] int32,
  // -1 past a row's k. The layers lie close together, so that the step's are one copy.
  TensorView routed_ids(int64_t rows) const;
  TensorView layer_ids(int layer, int64_t rows) const;  // [rows, width] int32: a layer of it
  // What limits_load leaves of one layer's; without it there are none.
  TensorView kept_ids(int64_t rows) const;      // [rows, width] int32
  TensorView dropped(int64_t rows) const;       // [rows] int32: pairs lost, over all layers
  TensorView topk_weights(int64_t rows) const;  // [rows, width] float32
  TensorView head_rows(int64_t rows) const;     // [rows, hidden] act: final norm of logit rows
  TensorView logits(int64_t rows) const;        // [rows, vocab] float32
  TensorView expert_counts() const;             // [num_layers, num_experts] int64

 private:
  Activations() = default;

  DType act_ = DType::kFloat32;
  ActivationLimits limits_;
  int64_t hidden_ = 0;
  int64_t qkv_features_ = 0;
  int64_t num_heads_ = 0;
  int64_t head_dim_ = 0;
  int64_t num_layers_ = 0;
  int64_t num_experts_ = 0;
  int64_t vocab_ = 0;
  Buffer residual_;
  Buffer normed_;
  Buffer qkv_;
  Buffer q_;
  Buffer attention_out_;
  Buffer routed_ids_;
  Buffer kept_ids_;
  Buffer dropped_;
  Buffer topk_weights_;
  Buffer head_rows_;
  Buffer logits_;
  Buffer expert_counts_;
};

}  // namespace moed
