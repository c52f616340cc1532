// The forward pass of a Mixture-of-Experts transformer on one rank.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "parallel/token_dispatcher.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/checkpoint/model_weights.h"

namespace moed {

class Activations;  // activations.h: named buffers, allocated once for the largest step
class Heartbeat;    // heartbeat.h: tells a watcher how far the rank is
class KvCache;      // kv_cache.h: paged keys and values of one rank

// One step's rows on one rank; device tensors. Any may have no rows.
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
  ConstTensorView num_choices;      // [num_tokens] int32, RouteArgs; a default view: the width of
                                    // Activations::routed_ids for all
  // Where Activations limits the load: the most pairs of this rank's rows that an expert serves in
  // a layer.
  int64_t expert_capacity = 0;

  int64_t num_tokens() const { return input_tokens.dim(0); }
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
  Heartbeat* heartbeat = nullptr;  // may be null
};

// Reads like the paper: embed; per layer norm, attention, residual, norm, router, dispatch,
// experts, combine; final norm, head. Used by the rank's thread.
class Transformer {
 public:
  explicit Transformer(const TransformerParts& parts);

  // Enqueues the pass up to the last layer. The choices of this rank's rows land in
  // Activations::routed_ids, and their number is added to Activations::expert_counts
  // [num_layers, num_experts] int64; what the capacity drops of them is added to
  // Activations::dropped. Without rows the rank still joins every exchange.
  // UNAVAILABLE when the group failed.
  absl::Status Forward(Stream& stream, const ForwardInput& input);

  // Enqueues logits = head(norm(residual)) of some rows of the last pass, which had `num_tokens`:
  // they land in Activations::logits [num_logit_rows, vocab] float32. logit_rows
  // [num_logit_rows] int32 on the device, at most ActivationLimits::max_logit_rows; the same row
  // may come twice.
  void Head(Stream& stream, int64_t num_tokens, ConstTensorView logit_rows);

 private:
  // residual += attention(norm(residual)); attention.cc.
  void Attention(Stream& stream, int layer, const ForwardInput& input);
  // residual += experts(norm(residual)); moe_layer.cc.
  absl::Status MoeLayer(Stream& stream, int layer, const ForwardInput& input);
  void EnterPart(int layer, const char* part);

  const TransformerParts parts_;
  // [num_layers][num_local_experts], in the form that ExpertFfnArgs takes.
  std::vector<std::vector<const ExpertWeight*>> experts_;
};

}  // namespace moed
