#include "runtime/engine/rank_routing.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "kernels/core/check.h"
#include "kernels/core/dtype.h"
#include "kernels/core/status.h"

namespace moed {

RankRouting::RankRouting(Backend& backend, const Activations& activations, int num_slots,
                         bool traces)
    : backend_(backend),
      activations_(activations),
      traces_(traces),
      recorder_(num_slots, static_cast<int>(activations.expert_counts().dim(0))) {
  MOED_CHECK(activations.expert_counts().dim(1) <= std::numeric_limits<int16_t>::max(),
             "an expert's id does not fit an int16");
}

absl::StatusOr<std::unique_ptr<RankRouting>> RankRouting::Create(Backend& backend,
                                                                 const Activations& activations,
                                                                 int num_slots, bool traces) {
  auto routing =
      std::unique_ptr<RankRouting>(new RankRouting(backend, activations, num_slots, traces));
  const int64_t max_rows = activations.limits().max_rows;
  const int64_t dropped_bytes =
      activations.limits().limits_load ? activations.dropped(max_rows).bytes() : 0;
  const int64_t count_bytes = activations.expert_counts().bytes();
  MOED_ASSIGN_OR_RETURN(routing->routed_ids_host_,
                        backend.AllocateStaging(activations.routed_ids(max_rows).bytes()));
  MOED_ASSIGN_OR_RETURN(routing->dropped_host_, backend.AllocateStaging(dropped_bytes));
  MOED_ASSIGN_OR_RETURN(routing->expert_counts_host_, backend.AllocateStaging(count_bytes));
  MOED_ASSIGN_OR_RETURN(routing->zeros_host_,
                        backend.AllocateStaging(std::max(count_bytes, dropped_bytes)));
  return routing;
}

void RankRouting::BeginStep(Stream& stream, int64_t num_rows) {
  num_rows_ = num_rows;
  const TensorView counts = activations_.expert_counts();
  backend_.CopyToDevice(stream, zeros_host_.View(DType::kInt64, {counts.dim(0), counts.dim(1)}),
                        counts);
  if (!activations_.limits().limits_load) return;
  backend_.CopyToDevice(stream, zeros_host_.View(DType::kInt32, {num_rows}),
                        activations_.dropped(num_rows));
}

void RankRouting::Fetch(Stream& stream) {
  const TensorView counts = activations_.expert_counts();
  backend_.CopyToHost(stream, counts,
                      expert_counts_host_.View(DType::kInt64, {counts.dim(0), counts.dim(1)}));
  if (num_rows_ == 0) return;
  const TensorView ids = activations_.routed_ids(num_rows_);
  backend_.CopyToHost(stream, ids,
                      routed_ids_host_.View(DType::kInt32, {ids.dim(0), ids.dim(1), ids.dim(2)}));
  if (!activations_.limits().limits_load) return;
  backend_.CopyToHost(stream, activations_.dropped(num_rows_),
                      dropped_host_.View(DType::kInt32, {num_rows_}));
}

RoutedRows RankRouting::Routed() const {
  const TensorView ids = activations_.routed_ids(num_rows_);
  return {.ids = absl::MakeConstSpan(static_cast<const int32_t*>(routed_ids_host_.data()),
                                     static_cast<size_t>(ids.num_elements())),
          .num_layers = static_cast<int>(ids.dim(0)),
          .num_rows = ids.dim(1),
          .width = static_cast<int>(ids.dim(2))};
}

absl::Span<const int32_t> RankRouting::Dropped() const {
  if (!activations_.limits().limits_load) return {};
  return absl::MakeConstSpan(static_cast<const int32_t*>(dropped_host_.data()),
                             static_cast<size_t>(num_rows_));
}

void RankRouting::Collect(const RankBatch& batch, const RankSlots& slots, RankResult& result) {
  const TensorView count_view = activations_.expert_counts();
  const auto* counts = static_cast<const int64_t*>(expert_counts_host_.data());
  result.expert_counts.assign(counts, counts + count_view.num_elements());
  const absl::Span<const int32_t> dropped = Dropped();
  result.dropped_pairs = std::accumulate(dropped.begin(), dropped.end(), int64_t{0});

  const RoutedRows routed = Routed();
  RepetitionCounts& repetition = result.repetition;
  repetition.same_first.assign(static_cast<size_t>(count_view.dim(0)), 0);
  repetition.any_shared.assign(static_cast<size_t>(count_view.dim(0)), 0);
  int64_t row = 0;
  for (const SequenceChunk& chunk : batch.chunks) {
    const int64_t num_rows = static_cast<int64_t>(chunk.tokens.size());
    repetition.num_rows += recorder_.CountRepetition(routed, chunk.slot, row, num_rows,
                                                     absl::MakeSpan(repetition.same_first),
                                                     absl::MakeSpan(repetition.any_shared));
    row += num_rows;
  }
  if (!traces_) return;
  result.routing.token_ids.reserve(static_cast<size_t>(num_rows_));
  for (const SequenceChunk& chunk : batch.chunks) {
    for (const int32_t token : chunk.tokens) {
      result.routing.token_ids.push_back(token == kLastSampledToken ? slots.last_sampled(chunk.slot)
                                                                    : token);
    }
  }
  result.routing.expert_ids.assign(routed.ids.begin(), routed.ids.end());
}

void RankRouting::CollectChunk(const SequenceChunk& chunk, int64_t first_row,
                               const RankSlots& slots, ChunkReport& report) const {
  const int64_t num_rows = static_cast<int64_t>(chunk.tokens.size());
  if (slots.init(chunk.slot).routed_experts) {
    report.routed_experts =
        ChunkChoices(Routed(), first_row, num_rows, slots.experts_per_token(chunk.slot));
  }
  const absl::Span<const int32_t> dropped = Dropped();
  if (dropped.empty()) return;
  const auto* begin = dropped.data() + first_row;
  report.dropped_pairs = std::accumulate(begin, begin + num_rows, int64_t{0});
}

}  // namespace moed
