// One step's rows of a rank as device tensors.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "runtime/engine/rank_slots.h"
#include "runtime/model/transformer.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// What a step works on, on the device. `forward` lacks last_sampled and expert_capacity.
struct StepInput {
  ForwardInput forward;
  ConstTensorView logit_rows;      // [num_samples] int32: rows to draw after; a row that several
                                   // slots draw after comes once for each
  ConstTensorView scored_rows;     // [num_scored] int32: rows with a prompt logprob
  ConstTensorView scored_targets;  // [num_scored] int32: the tokens that follow them
  int64_t num_pairs = 0;           // sum of the rows' k
};

// Host staging and device memory of the same layout, allocated once for the largest step: every
// tensor has a fixed place, the block tables last, so that a step is one copy of what it uses.
class RankInputs {
 public:
  struct Limits {
    int64_t max_rows = 0;
    int64_t max_chunks = 0;  // and samples
    int64_t max_blocks_per_chunk = 0;
    int32_t max_experts_per_token = 0;
  };

  // Device memory of Create (MemoryKind::kActivations); at most kUncountableBytes.
  static int64_t Bytes(const Limits& limits);
  static absl::StatusOr<std::unique_ptr<RankInputs>> Create(Backend& backend, const Limits& limits);

  // Writes the batch, whose chunks `slots` has been extended by, and enqueues its copy to the
  // device, where the result's tensors lie. MOED_CHECK where it exceeds the limits.
  StepInput Load(Stream& stream, const RankBatch& batch, const RankSlots& slots);

 private:
  // Rows of one kind written so far.
  struct Written {
    int32_t rows = 0;
    int64_t logit_rows = 0;
    int64_t scored_rows = 0;
    int64_t num_pairs = 0;
    bool all_have_most_choices = true;
  };

  // Where each tensor starts, in int32 elements.
  struct Layout {
    explicit Layout(const Limits& limits);
    int64_t input_tokens, positions, slot_mapping, chunk_starts, context_lengths, logit_rows,
        num_choices, scored_rows, scored_targets, block_tables;
    int64_t num_elements;
  };

  RankInputs(Backend& backend, const Limits& limits)
      : backend_(backend), limits_(limits), layout_(limits) {}
  void WriteRows(const SequenceChunk& chunk, const RankSlots& slots, Written& written);
  void WriteLogitRows(const SequenceChunk& chunk, int32_t first_row, Written& written);
  int32_t* Host(int64_t element) const { return static_cast<int32_t*>(staging_.data()) + element; }
  int32_t* Device(int64_t element) const { return static_cast<int32_t*>(device_.data()) + element; }

  Backend& backend_;
  const Limits limits_;
  const Layout layout_;
  Buffer staging_;
  Buffer device_;
};

}  // namespace moed
