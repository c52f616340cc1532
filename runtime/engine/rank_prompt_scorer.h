// Log probabilities of a rank's prompt tokens in a step.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "runtime/engine/logprob_rows.h"
#include "runtime/model/activations.h"
#include "runtime/model/transformer.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Score, then Collect for every chunk in order, once a step each.
class RankPromptScorer {
 public:
  // Device memory of Create (MemoryKind::kActivations), a few numbers for each row of a step; at
  // most kUncountableBytes.
  static int64_t Bytes(int64_t max_rows) { return LogprobRows::Bytes(max_rows); }
  static absl::StatusOr<std::unique_ptr<RankPromptScorer>> Create(Backend& backend,
                                                                  int64_t max_rows);

  // Enqueues the head over these rows of the last pass, which had num_tokens, as many at a time as
  // the logits of `activations` hold, and the copy of what it gives to the host. scored_rows and
  // targets [num_scored] int32 as StepInput. Overwrites the logits.
  void Score(Stream& stream, Transformer& transformer, const Activations& activations,
             int64_t num_tokens, ConstTensorView scored_rows, ConstTensorView targets);

  // Once the stream has run it: the chunk's targets, with at most num_top alternatives each. Chunks
  // are collected in the order in which they were scored.
  void Collect(const SequenceChunk& chunk, int32_t num_top, ChunkReport& report);

 private:
  explicit RankPromptScorer(Backend& backend) : backend_(backend) {}

  Backend& backend_;
  LogprobRows logprobs_;
  int64_t num_collected_ = 0;  // rows of the step
};

}  // namespace moed
