// Draws a rank's tokens of a step.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "runtime/engine/logprob_rows.h"
#include "runtime/engine/rank_slots.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Sample, then Collect, once a step each.
class RankSampler {
 public:
  // Device memory of Create (MemoryKind::kActivations); at most kUncountableBytes.
  static int64_t Bytes(int64_t max_sequences);
  static absl::StatusOr<std::unique_ptr<RankSampler>> Create(Backend& backend,
                                                             int64_t max_sequences);

  ConstTensorView last_sampled() const;  // [max_sequences] int32, EmbedArgs

  // Enqueues a draw for every chunk that asks and then for its forks, after one row of logits each
  // [num_draws, vocab] float32, and the copy of what it gives to the host.
  void Sample(Stream& stream, const RankBatch& batch, RankSlots& slots, ConstTensorView logits);

  // Once the stream has run it: what was drawn, for the result and for the slots, which remember.
  void Collect(RankSlots& slots, RankResult& result) const;

 private:
  RankSampler(Backend& backend, int64_t max_sequences)
      : backend_(backend), max_sequences_(max_sequences) {}

  Backend& backend_;
  const int64_t max_sequences_;
  std::vector<SamplingRow> rows_;  // of the step
  Buffer last_sampled_;            // [max_sequences] int32
  Buffer token_ids_;               // [max_sequences] int32
  Buffer token_ids_host_;
  LogprobRows logprobs_;
};

}  // namespace moed
