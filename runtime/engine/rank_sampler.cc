#include "runtime/engine/rank_sampler.h"

#include <cstddef>

#include "kernels/core/check.h"
#include "kernels/core/dtype.h"
#include "kernels/core/status.h"
#include "runtime/model/tensor_bytes.h"

namespace moed {

int64_t RankSampler::Bytes(int64_t max_sequences) {
  return AddBytes(LogprobRows::Bytes(max_sequences),
                  TensorBytes(DType::kInt32, {max_sequences, 2}));
}

absl::StatusOr<std::unique_ptr<RankSampler>> RankSampler::Create(Backend& backend,
                                                                 int64_t max_sequences) {
  auto sampler = std::unique_ptr<RankSampler>(new RankSampler(backend, max_sequences));
  const int64_t bytes = TensorBytes(DType::kInt32, {max_sequences});
  MOED_ASSIGN_OR_RETURN(sampler->last_sampled_, backend.Allocate(MemoryKind::kActivations, bytes));
  MOED_ASSIGN_OR_RETURN(sampler->token_ids_, backend.Allocate(MemoryKind::kActivations, bytes));
  MOED_ASSIGN_OR_RETURN(sampler->token_ids_host_, backend.AllocateStaging(bytes));
  MOED_ASSIGN_OR_RETURN(sampler->logprobs_, LogprobRows::Create(backend, max_sequences));
  sampler->rows_.reserve(static_cast<size_t>(max_sequences));
  return sampler;
}

ConstTensorView RankSampler::last_sampled() const {
  return last_sampled_.View(DType::kInt32, {max_sequences_});
}

void RankSampler::Sample(Stream& stream, const RankBatch& batch, RankSlots& slots,
                         ConstTensorView logits) {
  rows_.clear();
  bool want_top = false;
  for (const SequenceChunk& chunk : batch.chunks) {
    if (!chunk.sample) continue;
    const int64_t position = chunk.start_position + static_cast<int64_t>(chunk.tokens.size());
    const auto draw = [&](int32_t slot) {
      rows_.push_back(slots.MakeSamplingRow(slot, position, chunk.suppress));
      want_top = want_top || slots.init(slot).num_logprobs > 0;
    };
    draw(chunk.slot);
    for (const int32_t slot : chunk.fork_slots) draw(slot);
  }
  const int64_t n = logits.dim(0);
  MOED_CHECK(static_cast<int64_t>(rows_.size()) == n,
             "a row of logits without its sampling parameters");
  if (n == 0) return;
  const TensorView token_ids = token_ids_.View(DType::kInt32, {n});
  backend_.Sample(stream, {.logits = logits,
                           .rows = rows_,
                           .last_sampled = last_sampled_.View(DType::kInt32, {max_sequences_}),
                           .token_ids = token_ids,
                           .logprobs = logprobs_.logprobs(n),
                           .top_ids = logprobs_.top_ids(n),
                           .top_logprobs = logprobs_.top_logprobs(n),
                           .want_top = want_top});
  backend_.CopyToHost(stream, token_ids, token_ids_host_.View(DType::kInt32, {n}));
  logprobs_.Fetch(backend_, stream, n, want_top);
}

void RankSampler::Collect(RankSlots& slots, RankResult& result) const {
  const auto* token_ids = static_cast<const int32_t*>(token_ids_host_.data());
  result.samples.reserve(rows_.size());
  for (size_t row = 0; row < rows_.size(); ++row) {
    const int32_t slot = rows_[row].slot;
    SampledToken& sample = result.samples.emplace_back();
    sample.slot = slot;
    sample.token_id = token_ids[row];
    logprobs_.Read(static_cast<int64_t>(row), slots.init(slot).num_logprobs, sample);
    slots.RecordSampled(slot, sample.token_id);
  }
}

}  // namespace moed
