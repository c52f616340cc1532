// What a rank tells of its router's choices, step by step.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/stream.h"
#include "runtime/engine/rank_slots.h"
#include "runtime/model/activations.h"
#include "runtime/model/routing_recorder.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Off the hot path: a step's choices are copied to the host once, at its end. BeginStep and Fetch
// around the forward pass, then Collect, once a step each, and CollectChunk.
class RankRouting {
 public:
  // `activations` outlives it. RESOURCE_EXHAUSTED when the host has not enough memory.
  static absl::StatusOr<std::unique_ptr<RankRouting>> Create(Backend& backend,
                                                             const Activations& activations,
                                                             int num_slots, bool traces);

  // The slot's next row follows none.
  void Forget(int32_t slot) { recorder_.Forget(slot); }
  // Enqueues zeros to the counts of the device.
  void BeginStep(Stream& stream, int64_t num_rows);
  // Enqueues the copy of what the forward pass left of its rows.
  void Fetch(Stream& stream);

  // Once the stream has run it: counts, dropped pairs, repetition and trace. `slots` still has the
  // tokens drawn before this step.
  void Collect(const RankBatch& batch, const RankSlots& slots, RankResult& result);
  // What the step gave for a chunk whose rows begin at `first_row`.
  void CollectChunk(const SequenceChunk& chunk, int64_t first_row, const RankSlots& slots,
                    ChunkReport& report) const;

 private:
  RankRouting(Backend& backend, const Activations& activations, int num_slots, bool traces);
  RoutedRows Routed() const;
  absl::Span<const int32_t> Dropped() const;  // [num_rows]; empty where no load is limited

  Backend& backend_;
  const Activations& activations_;
  const bool traces_;
  RoutingRecorder recorder_;
  int64_t num_rows_ = 0;       // of the step
  Buffer routed_ids_host_;     // [num_layers, num_rows, width] int32
  Buffer dropped_host_;        // [max_rows] int32
  Buffer expert_counts_host_;  // [num_layers, num_experts] int64
  Buffer zeros_host_;          // as the larger of the last two
};

}  // namespace moed
