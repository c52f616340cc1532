// The forward pass of a Mixture-of-Experts transformer on one rank.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/tensor_view.h"
#include "parallel/token_dispatcher.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/model_weights.h"

namespace moed {

class KvCache;      // kv_cache.h: paged keys and values of one rank
class Activations;  // activations.h: named buffers, allocated once for the largest step

// One step's rows on one rank; device tensors.
struct ForwardInput {
  uint64_t step = 0;
  ExchangePlan exchange;
  ConstTensorView input_tokens;     // [num_tokens] int32, EmbedArgs
  ConstTensorView last_sampled;     // [num_slots] int32
  ConstTensorView positions;        // [num_tokens] int32
  ConstTensorView slot_mapping;     // [num_tokens] int32
  ConstTensorView chunk_starts;     // [num_chunks + 1] int32
  ConstTensorView context_lengths;  // [num_chunks] int32
  ConstTensorView block_tables;     // [num_chunks, max_blocks] int32
  ConstTensorView logit_rows;       // [num_logit_rows] int32: rows that need logits
};

// Everything a forward pass works with; all outlive the Transformer.
struct TransformerParts {
  const ModelConfig* config = nullptr;
  const ReplicatedWeights* replicated = nullptr;
  const ExpertWeights* experts = nullptr;
  Backend* backend = nullptr;
  TokenDispatcher* dispatcher = nullptr;
  KvCache* kv_cache = nullptr;
  Activations* activations = nullptr;
};

// Reads like the paper: embed; per layer norm, attention, residual, norm, router, dispatch,
// experts, combine; final norm, head. Used by the rank's thread.
class Transformer {
 public:
  explicit Transformer(const TransformerParts& parts) : parts_(parts) {}

  // Enqueues the pass; logits land in Activations::logits [num_logit_rows, vocab] float32, and the
  // routing counts of this rank's rows are added to Activations::expert_counts
  // [num_layers, num_experts] int64. UNAVAILABLE when the group failed.
  absl::Status Forward(Stream& stream, const ForwardInput& input);

 private:
  absl::Status Attention(Stream& stream, int layer, const ForwardInput& input);
  absl::Status MoeLayer(Stream& stream, int layer, const ForwardInput& input);

  TransformerParts parts_;
};

}  // namespace moed
